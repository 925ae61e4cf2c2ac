/**
 * Receiving by DICOMweb: a `(Request) => Promise<Response>` on web-standard types that can be mounted in any server.
 *
 * @module
 */
export { createStowHandler, type InstanceAcceptor, type StowHandlerOptions } from './stow.ts';
