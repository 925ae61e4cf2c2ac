export { seededRandom } from '../domain/seeded-random.ts';
