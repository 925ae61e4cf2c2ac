import { describe, expect, test } from 'vitest';
import { type Classifiable, classify } from '../src/tiers/classify.ts';
import { type Hl7Priority, urgencyFromFhir, urgencyFromHl7 } from '../src/tiers/order-codes.ts';
import { defaultTierPolicy, type RuleCondition, type TierPolicy } from '../src/tiers/policy.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const [TODAY, WEEK, OLD] = ['last-24-hours', 'last-week', 'historical'] as const;
const UTC = { TimezoneOffsetFromUTC: '+0000' };
const CT = '1.2.840.10008.5.1.4.1.1.2';
const SR = '1.2.840.10008.5.1.4.1.1.88.22';

type Attributes = Readonly<Record<string, string>>;

/** A radiograph of last week. */
const RADIOGRAPH: Attributes = {
  ...UTC,
  StudyDate: '20260225',
  Modality: 'CR',
  BodyPartExamined: 'CHEST ',
  StationName: 'er-1',
  InstitutionalDepartmentName: 'Emergency',
  RequestedProcedurePriority: 'LOW',
};
const judge = (attributes: Attributes, policy: Partial<TierPolicy>, urgency?: Classifiable['urgency']) =>
  classify({ attributes, receivedAt: NOON, urgency }, { asOf: NOON, policy: { ...defaultTierPolicy, ...policy } });

describe('rules', () => {
  test.each<readonly [string, RuleCondition, boolean]>([
    ['modality', { modality: 'CR' }, true],
    ['one of several', { modality: ['DX', 'cr'] }, true],
    ['another modality', { modality: 'DX' }, false],
    ['body part, padded', { bodyPart: 'chest' }, true],
    ['station, in any case', { station: 'ER-1' }, true],
    ['another station', { station: 'ER-10' }, false],
    ['department', { department: ['Ward', 'Emergency'] }, true],
    ['urgency', { urgency: ['routine', 'stat'] }, true],
    ['another urgency', { urgency: 'stat' }, false],
    ['all of them', { modality: 'CR', bodyPart: 'CHEST', station: 'ER-1', urgency: 'routine' }, true],
    ['all but one', { modality: 'CR', bodyPart: 'HAND', station: 'ER-1' }, false],
    ['a predicate', { matches: ({ attributes }) => attributes.StudyDate === '20260225' }, true],
    ['a predicate and a modality', { modality: 'MR', matches: () => true }, false],
  ])('%s', (_, when, applies) => {
    const judged = judge(RADIOGRAPH, { rules: [{ id: 'mine', when, tier: TODAY, urgency: 'stat' }] });
    expect(judged).toMatchObject(applies ? { tier: TODAY, urgency: 'stat' } : { tier: WEEK, urgency: 'routine' });
    expect(judged.rank).toMatchObject(applies ? { ageTier: null, ruledTier: 0 } : { ageTier: 1, ruledTier: null });
    expect(judged.explanation.includes('by the rule "mine"')).toBe(applies);
    expect(judged.explanation).toContain('StudyDate (0008,0020)');
  });

  test('a header without the attribute meets no condition on it', () => {
    expect(judge(UTC, { rules: [{ id: 'r', when: { station: 'ER-1' }, tier: OLD }] }).tier).toBe(TODAY);
  });

  test('the first that gives a tier, and the first that gives an urgency', () => {
    const judged = judge(RADIOGRAPH, {
      rules: [
        { id: 'a', when: { modality: 'MR' }, tier: TODAY },
        { id: 'b', when: { modality: 'CR' }, urgency: 'urgent' },
        { id: 'c', when: { modality: 'CR' }, tier: OLD, urgency: 'stat' },
        { id: 'd', when: { modality: 'CR' }, tier: TODAY },
      ],
    });
    expect(judged).toMatchObject({ tier: OLD, urgency: 'urgent' });
    expect(judged.explanation).toContain('by the rule "c"');
    expect(judged.explanation).toContain('urgency urgent by the rule "b"');
  });

  test('what the caller says of the order overrules a rule’s urgency, and is what conditions see', () => {
    const rules = [{ id: 'r', when: { urgency: 'stat' as const }, tier: TODAY, urgency: 'routine' as const }];
    expect(judge(RADIOGRAPH, { rules }, 'stat')).toMatchObject({ tier: TODAY, urgency: 'stat' });
    expect(judge(RADIOGRAPH, { rules }).tier).toBe(WEEK);
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('broken');
      },
    ],
    ['answers nothing', () => undefined],
    [
      'is async',
      async () => {
        throw new Error('broken');
      },
    ],
  ])('a predicate that %s does not apply, and that is told', (_, matches) => {
    const rules = [{ id: 'r', when: { matches: untyped<() => boolean>(matches) }, tier: OLD }];
    expect(judge({ ...RADIOGRAPH, StudyDate: '20260302' }, { rules })).toMatchObject({
      tier: TODAY,
      oddities: ['rule-failed'],
    });
  });

  test('the date that is told is one that age was judged by', () => {
    const at = { ...UTC, SeriesDate: '20260225', Modality: 'MR' };
    const ruled = { attributes: at, receivedAt: NOON };
    const image = { attributes: { ...UTC, StudyDate: '20260225', Modality: 'CT' }, receivedAt: NOON };
    const rules = [{ id: 'r', when: { modality: 'MR' }, tier: OLD }];
    const policy = { ...defaultTierPolicy, rules };
    expect(classify([ruled, image], { asOf: NOON, policy })).toMatchObject({ tier: WEEK, source: 'StudyDate' });
  });

  test('of a study the most urgent instance decides, whether by rule or by age', () => {
    const policy: TierPolicy = {
      ...defaultTierPolicy,
      rules: [
        { id: 'reports last', when: { modality: 'SR' }, tier: OLD },
        { id: 'radiographs first', when: { modality: 'CR' }, tier: TODAY },
      ],
    };
    const of = (...modalities: readonly string[]) => {
      const instances = modalities.map((Modality) => ({
        attributes: { ...UTC, StudyDate: '20260225', Modality },
        receivedAt: NOON,
      }));
      return classify(instances, { asOf: NOON, policy }).tier;
    };
    expect([of('SR'), of('CT'), of('CT', 'SR'), of('SR', 'CT', 'CR')]).toEqual([OLD, WEEK, WEEK, TODAY]);
  });
});

describe('text hints', () => {
  const textHints = { stat: ['STAT', 'code stroke'], urgent: ['urgent', 'E.R.'] };
  test.each([
    ['CT HEAD STAT', 'stat'],
    ['stat', 'stat'],
    ['CT_HEAD_STAT', 'stat'],
    ['(STAT) CT', 'stat'],
    ['CODE  STROKE', 'stat'],
    ['code_stroke CTA', 'stat'],
    ['Urgent: E.R.', 'urgent'],
    ['from the E.R.', 'urgent'],
    ['urgent STAT', 'stat'],
    ['STATUS POST OP', 'unknown'],
    ['PROSTATE MR', 'unknown'],
    ['STAT2', 'unknown'],
    ['éSTAT', 'unknown'],
    ['STAT\u0328\u0301', 'unknown'],
    ['non-STAT', 'unknown'],
    ['NOT URGENT', 'unknown'],
    ['no stat', 'unknown'],
    ['from the EXR.', 'unknown'],
    ['volcano stat', 'stat'],
    ['', 'unknown'],
  ])('%j is %s', (StudyDescription, urgency) => {
    const judged = judge({ StudyDescription }, { textHints });
    expect(judged.urgency).toBe(urgency);
    if (urgency !== 'unknown') expect(judged.explanation).toContain('a word in StudyDescription');
  });

  test('a code that cannot be read is told of', () => {
    expect(judge({ ReportingPriority: 'EMERGENCY' }, {}).explanation).toContain(
      'urgency unknown by an unreadable ReportingPriority (0040,1009)',
    );
    expect(judge({}, {}).explanation).toContain('urgency unknown, since nothing states it');
  });

  test('codes overrule them', () => {
    expect(judge({ StudyDescription: 'STAT', ReportingPriority: 'LOW' }, { textHints }).urgency).toBe('routine');
  });

  test('a long description takes no time worth speaking of', () => {
    const text = `${'no '.repeat(20_000)}${'_'.repeat(20_000)}`;
    expect(judge({ StudyDescription: text }, { textHints }).urgency).toBe('unknown');
  });
});

describe('orders', () => {
  test.each<readonly [Hl7Priority['field'], Hl7Priority['value'], string]>([
    ['TQ1-9', 'S', 'stat'],
    ['TQ1-9', 'A^ASAP^HL70485', 'urgent'],
    ['TQ1-9', 'R', 'routine'],
    ['TQ1-9', 'P', 'urgent'],
    ['TQ1-9', 'C', 'urgent'],
    ['TQ1-9', 'T', 'urgent'],
    ['TQ1-9', 'TS30', 'stat'],
    ['TQ1-9', 'TH', 'urgent'],
    ['TQ1-9', 'TM15', 'stat'],
    ['TQ1-9', 'TH2', 'urgent'],
    ['TQ1-9', 'TD3', 'routine'],
    ['TQ1-9', 'TW1', 'routine'],
    ['TQ1-9', 'TL6', 'routine'],
    ['TQ1-9', 'PRN', 'unknown'],
    ['TQ1-9', 's', 'stat'],
    ['TQ1-9', 'R~S', 'stat'],
    ['TQ1-9', 'EMERG~R', 'unknown'],
    ['TQ1-9', '~R', 'routine'],
    ['ORC-7', '^^^^^X~^^^^^R', 'unknown'],
    ['TQ1-9', '^S', 'unknown'],
    ['TQ1-9', '', 'unknown'],
    ['TQ1-9', 'TX1', 'unknown'],
    ['TQ1-9', null, 'unknown'],
    ['ORC-7', '^^^^^S', 'stat'],
    ['ORC-7', '1^Q6H^D10^20260302^^A', 'urgent'],
    ['ORC-7', '^^^^^R~^^^^^A', 'urgent'],
    ['ORC-7', '^^^^^S&sub', 'stat'],
    ['ORC-7', 'S', 'stat'],
    ['ORC-7', 'S^^^^^', 'unknown'],
    ['OBR-27', '^^^^^R', 'routine'],
    ['OBR-27', undefined, 'unknown'],
  ])('HL7 v2 tables 0485 and 0027, %s: %j is %s', (field, value, urgency) => {
    expect(urgencyFromHl7({ field, value })).toBe(urgency);
  });

  test.each(['OBR-5', 'toString'])('the field %s is refused', (field) => {
    expect(() => urgencyFromHl7({ field: field as 'ORC-7', value: 'S' })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining(field) }),
    );
  });

  test.each([
    ['stat', 'stat'],
    ['asap', 'urgent'],
    ['urgent', 'urgent'],
    ['routine', 'routine'],
    ['S', 'unknown'],
    ['', 'unknown'],
    [null, 'unknown'],
  ])('FHIR request-priority: %j is %s', (code, urgency) => {
    expect(urgencyFromFhir(code)).toBe(urgency);
  });
});

describe('a study whose instances differ', () => {
  const instance = (attributes: Attributes, rest: Partial<Classifiable> = {}): Classifiable => ({
    attributes: { ...UTC, SOPClassUID: CT, ...attributes },
    receivedAt: NOON,
    ...rest,
  });
  const judge = (...instances: readonly Classifiable[]) => classify(instances, { asOf: NOON });

  test('the newest acquisition counts', () => {
    const judged = judge(
      instance({ AcquisitionDate: '20260225', AcquisitionTime: '10' }),
      instance({ AcquisitionDate: '20260302', AcquisitionTime: '10' }),
      instance({ AcquisitionDate: '20200101' }),
    );
    expect(judged).toMatchObject({ tier: TODAY, source: 'AcquisitionDate', certainty: 'exact' });
    expect(judged.explanation).toContain('of 3 instances the newest counts');
  });

  test('an undated instance and a report make no old study fresh', () => {
    const old = instance({ AcquisitionDate: '20200101' });
    const undated = instance({});
    const report = instance({ ContentDate: '20260302', SOPClassUID: SR });
    const imported = instance({ InstanceCreationDate: '20260302' });
    for (const others of [[undated], [report], [imported], [undated, report, imported]]) {
      expect(judge(...others).tier).toBe(TODAY);
      expect(judge(...others, old)).toMatchObject({ tier: OLD, source: 'AcquisitionDate' });
    }
  });

  test('the highest urgency that is known counts', () => {
    const low = instance({ StudyDate: '20260225', RequestedProcedurePriority: 'LOW' });
    expect(judge(low, instance({ StudyDate: '20260225' })).urgency).toBe('routine');
    const judged = judge(low, instance({ StudyDate: '20260225' }, { urgency: 'stat' }));
    expect(judged.urgency).toBe('stat');
    expect(judged.explanation).toContain('stat by the caller');
  });

  test('what was odd of any is told', () => {
    const judged = judge(instance({ StudyDate: '2026.02.25' }), instance({ StudyDate: 'x' }));
    expect([...judged.oddities].sort()).toEqual(['date-acr-nema', 'date-malformed']);
  });

  test('none is refused', () => {
    expect(() => judge()).toThrow(expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }));
  });
});

/** What a caller in JavaScript may pass. */
function untyped<T>(value: unknown): T {
  return value as T;
}
