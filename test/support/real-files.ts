import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Oddity } from '../../src/domain/oddity.ts';
import type { SpillwayErrorCode } from '../../src/errors.ts';

/** Real files with every oddity that gateways meet; they are not the project's to ship, so the folder may be absent. */
export const REAL_FILES = fileURLToPath(new URL('../../../shared/dicom/', import.meta.url));
export const hasRealFiles = existsSync(REAL_FILES);

export function readReal(file: string): Buffer {
  return readFileSync(REAL_FILES + file);
}

/** Files of the manifest, with what was found odd about each and by what readers it is not read. */
export function manifest(): readonly { readonly file: string; readonly oddity: string }[] {
  if (!hasRealFiles) return [];
  const [, ...rows] = readReal('MANIFEST.tsv').toString('utf8').trim().split('\n');
  return rows.map((row) => row.split('\t')).map(([file = '', , , , , oddity = '']) => ({ file, oddity }));
}

/**
 * What becomes of each real file: its SOP Instance UID and what is odd about it, or the code of its refusal. UIDs were
 * compared with what DCMTK's dcmdump shows, except where it reads nothing.
 */
export const SURVIVAL: readonly (readonly [
  file: string,
  outcome: string | SpillwayErrorCode,
  ...oddities: readonly Oddity[],
])[] = [
  ['healthcare-dicom-dicomweb-adapter/example-mg.dcm', '111'],
  ['healthcare-dicom-dicomweb-adapter/example-redacted-jp2k.dcm', '2.25.140302709094137852884202099990798014056'],
  ['dicomweb-client/file.dcm', '1.2.826.0.1.3680043.8.498.13592916866760227856872573295366023962'],
  ['highdicom/dx_image.dcm', '1.2.826.0.1.3680043.8.498.42452074182619431090433355790131769947'],
  ['highdicom/sm_annotations.dcm', '1.2.826.0.1.3680043.10.511.3.43769862825864704536182881533064337'],
  ['dcmqi/IMG0001.dcm', '1.2.826.0.1.3680043.2.1125.1.40786175510277805682528251346244400'],
  ['dcmqi/IMG0002.dcm', '1.2.826.0.1.3680043.2.1125.1.87288186081223633241600833351251290'],
  ['dcmqi/IMG0003.dcm', '1.2.826.0.1.3680043.2.1125.1.19132107722474319200808479400869099'],
  ['dcmqi/mf.dcm', '1.3.6.1.4.1.5962.99.1.3840.1781.1519964048862.1.1.3456.3456.1'],
  ['dcmqi/label.seg', '1.2.276.0.7230010.3.1.4.0.36063.1519964165.238879'],
  ['dcmqi/sparse-labelmap-noppv.dcm', '1.2.276.0.7230010.3.1.4.8323329.114908.1781279372.413280'],
  ['dcmqi/sparse-labelmap-ppv5.dcm', '1.2.276.0.7230010.3.1.4.8323329.114908.1781279372.413280'],
  ['dcmqi/rwvm.dcm', '1.2.276.0.7230010.3.1.4.8323329.18215.1440001297.928457'],
  [
    'cornerstone3D/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm',
    '1.2.276.0.7230010.3.1.4.8323329.29256.1531935570.345368',
  ],
  [
    'cornerstone3D/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm',
    '1.2.276.0.7230010.3.1.4.8323329.29255.1531935570.306951',
  ],
  ['dicomParser/CT0012.fragmented_no_bot_jpeg_lossless.57.dcm', '1.3.6.1.4.1.5962.1.1.10.3.1.1166562673.14401'],
  ['example-dicom-structural/N2D_0200.dcm', '1.2.826.0.1.3680043.2.1143.4728297236263590733561957799110258041'],
  ['example-dicom-structural/N2D_0201.dcm', '1.2.826.0.1.3680043.2.1143.6776421975506547277942666726457192481'],
  ['example-dicom-structural/N2D_0202.dcm', '1.2.826.0.1.3680043.2.1143.1830285131039869239242998208234289458'],
  ['example-dicom-structural/N2D_0203.dcm', '1.2.826.0.1.3680043.2.1143.121009655393591952147961012095101572'],
  ['example-dicom-structural/N2D_0204.dcm', '1.2.826.0.1.3680043.2.1143.8253698425900443807129607236979789327'],
  ['example-dicom-structural/N2D_0205.dcm', '1.2.826.0.1.3680043.2.1143.6789042003877051257993914156570849257'],
  ['example-dicom-structural/N2D_0206.dcm', '1.2.826.0.1.3680043.2.1143.2265504095547368715469900748715028739'],
  ['example-dicom-structural/N2D_0207.dcm', '1.2.826.0.1.3680043.2.1143.8196622054630914190130235803759042697'],
  ['example-dicom-structural/N2D_0208.dcm', '1.2.826.0.1.3680043.2.1143.163337808644072633193392217713665751'],
  ['example-dicom-structural/N2D_0209.dcm', '1.2.826.0.1.3680043.2.1143.5561938799805174105166486552855327014'],
  ['example-dicom-structural/N2D_0210.dcm', '1.2.826.0.1.3680043.2.1143.9629925530010710978839328521160892874'],
  ['example-dicom-structural/N2D_0211.dcm', '1.2.826.0.1.3680043.2.1143.3465944104777314210207481669826448051'],
  ['dcmjs/sample-op.dcm', '1.2.246.10.22143774.10001678204431056.11469.10637'],
  ['fo-dicom/GH1301.dcm', '1.3.6.1.4.1.5962.1.1.0.1.1.1175775771.5714.0'],
  ['fo-dicom/GH184.dcm', '1.2.840.113619.2.131.9999.1414055098.834573'],
  [
    'fo-dicom/GH364.dcm',
    '1.2.840.113663.1500.1.341634990.3.1.20130730.83615.140',
    'element-malformed',
    'file-meta-differs',
  ],
  ['fo-dicom/chrGB2312.dcm', '1.2.276.0.7230010.3.1.4.1819218265.9224.1717183568.223'],
  ['nibabel/slicethickness_empty_string.dcm', '1.3.12.2.1107.5.2.43.66044.30000015102315441754900001777'],
  ['pydicom/chrH31.dcm', '1.3.6.1.4.1.5962.1.1.0.1.1.1175775771.5702.0'],
  [
    'pydicom/chrJapMultiExplicitIR6.dcm',
    '1.3.51.0.7.11267079384.54094.16836.47802.41082.29308.17462',
    'file-meta-differs',
  ],
  ['pydicom/chrKoreanMulti.dcm', '1.3.51.0.7.11267079384.54094.16836.47802.41082.29308.17461'],
  ['pydicom/chrSQEncoding1.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom/chrX1.dcm', '1.3.6.1.4.1.5962.1.1.0.1.1.1175775771.5711.0'],
  ['pydicom/CT_small.dcm', '1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322'],
  ['pydicom/ExplVR_BigEnd.dcm', '1.2.840.1136190195280574824680000700.3.0.1.19970424140438'],
  ['pydicom/ExplVR_LitEndNoMeta.dcm', '1.2.333.4444.5.6.7.8', 'file-meta-missing', 'transfer-syntax-missing'],
  ['pydicom/JPEG-lossy.dcm', '1.3.6.1.4.1.5962.1.1.8.1.5.20040826185059.5457'],
  ['pydicom/JPEG2000.dcm', '1.3.6.1.4.1.5962.1.1.8.1.3.20040826185059.5457'],
  ['pydicom/MR_small.dcm', '1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457'],
  ['pydicom/MR_small_bigendian.dcm', '1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457'],
  ['pydicom/MR_small_implicit.dcm', '1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457'],
  ['pydicom/MR_truncated.dcm', '1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457', 'truncated'],
  ['pydicom/UN_sequence.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom/2062', '1.3.6.1.4.1.5962.1.1.0.0.0.1194734704.16302.0.12'],
  ['pydicom/image_dfl.dcm', '1.3.6.1.4.1.5962.1.1.0.0.0.977067309.6001.0'],
  ['pydicom/meta_missing_tsyntax.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom/nested_priv_SQ.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom/no_meta.dcm', 'SPILLWAY_NOT_DICOM'],
  ['pydicom/no_meta_group_length.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom/priv_SQ.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom/rtdose_rle_1frame.dcm', '1.9.999.999.99.9.9999.9999.20030818153516'],
  ['pydicom/rtplan.dcm', '1.2.777.777.77.7.7777.7777.20030903150023', 'file-meta-differs'],
  ['pydicom/rtstruct.dcm', '1.2.826.0.1.3680043.8.498.2010020400001', 'file-meta-missing', 'transfer-syntax-missing'],
  ['pydicom/test-SR.dcm', '1.2.276.0.7230010.3.1.4.2139363186.7819.982086466.4'],
  ['pydicom/waveform_ecg.dcm', '1.3.6.1.4.1.20029.40.20130125105919.5407.1.1'],
  ['pydicom-data/HTJ2K_08_RGB.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  ['pydicom-data/JLSN_RGB_ILV0.dcm', 'SPILLWAY_IDENTITY_MISSING'],
  [
    'pydicom-data/bad_sequence.dcm',
    'dccc9599087131742838cc1162a630fea87ba9bf61ac09bfda90d4adfa5ddaed',
    'uid-nonstandard',
    'file-meta-differs',
  ],
  ['pydicom-data/emri_small.dcm', '1.2.826.0.1.3680043.2.1143.6455556726214900995651753669640998622'],
  ['pydicom-data/liver_deflate.dcm', '1.2.826.0.1.3680043.8.498.11292069848099143391460820495139596116'],
];
