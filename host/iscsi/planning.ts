import { decodeCdb } from '../scsi/cdb.ts';
import { Asc, Attribute } from '../scsi/constants.ts';
import { inquiry } from '../scsi/inquiry.ts';
import { check, encodeSense, good, illegal, invalidCdb, notSupported, type Sense, SenseError } from '../scsi/sense.ts';
import { isPlan, type LogicalUnit, type Plan, type Result } from '../scsi/unit.ts';
import { sizesOf } from '../scsi/validate.ts';
import { Flag } from './constants.ts';
import { encodeLun } from './names.ts';
import type { Pdu } from './pdu.ts';
import type { SessionUnit } from './session-units.ts';

/** The end of a command before it began; `dataOut`: bytes that it would have taken. */
export type Refusal = Result & { readonly dataOut?: number };

const REPORT_LUNS = 0xa0;
/** INVALID FIELD IN COMMAND INFORMATION UNIT: the CDB and the expected data transfer length contradict each other. */
const lengthsDiffer: Sense = illegal(0x0e03);
const invalidAttribute: Sense = illegal(0x4900); // INVALID MESSAGE ERROR

/** What becomes of a SCSI Command PDU: how it is carried out, or how it ends at once. `luns`: of its target. */
export function planCommand(pdu: Pdu, unit: SessionUnit | undefined, luns: readonly number[]): Plan | Refusal {
  // A CDB of more than 16 bytes goes on in an additional header segment; no such command is known here.
  if (pdu.ahs !== undefined && pdu.ahs.length > 0) return check(illegal(Asc.INVALID_OPERATION_CODE));
  if (pdu.attribute > Attribute.HEAD_OF_QUEUE) return check(invalidAttribute);
  if (pdu.cdb[0] === REPORT_LUNS) return reportLuns(pdu, luns);
  if (unit?.lease === undefined || unit.gone) return withoutUnit(pdu, unit);
  const planned = unit.lease.unit.plan(unit.nexus, pdu.cdb);
  if (!isPlan(planned)) return planned;
  const out = (pdu.flags & Flag.WRITE) !== 0 ? pdu.expectedLength : 0;
  return fitted(planned, out, unit.lease.unit);
}

/**
 * The plan for as many data as the initiator has. WRITE does what it has data for, and the residual count tells
 * (RFC 7143, 11.4.5.1); of the others the data are one thing, and must be whole.
 */
function fitted(plan: Plan, out: number, unit: LogicalUnit): Plan | Refusal {
  const { verb, blocks } = plan.command.spec;
  // Of 256 blocks its one byte has 0.
  if (verb === 'compareWrite' && plan.dataOut === 0 && out > 0) return check(invalidCdb(13));
  if (out === plan.dataOut || plan.dataOut === 0) return plan;
  if (verb === 'write' || verb === 'writeVerify') {
    if (out > plan.dataOut) return plan;
    if (out % unit.blockBytes !== 0) return { ...check(lengthsDiffer), dataOut: plan.dataOut };
    const command = { ...plan.command, blocks: out / unit.blockBytes };
    return { ...plan, ...sizesOf(command, unit.geometry), command, dataOut: plan.dataOut };
  }
  if (out > plan.dataOut && blocks === undefined) return plan; // a parameter list, and something behind it
  return { ...check(lengthsDiffer), dataOut: plan.dataOut };
}

/** SPC-4 6.31. The LUNs are the target's, whatever becomes of their volumes. */
function reportLuns(pdu: Pdu, luns: readonly number[]): Result {
  const command = decodeCdb(pdu.cdb);
  if (!('spec' in command)) return check(command);
  const report = command.cdb[2]!;
  if (report > 2) return check(invalidCdb(2));
  if (command.allocation < 16) return check(invalidCdb(6));
  // 1: only well known logical units, of which there are none.
  const reported = report === 1 ? [] : luns.map(encodeLun);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 * reported.length, 0);
  return { ...good, data: Buffer.concat([head, ...reported]).subarray(0, command.allocation) };
}

/** SPC-4 5.11 and SAM-5 5.11: a LUN that is not there, or cannot be used now, answers these two. */
function withoutUnit(pdu: Pdu, unit: SessionUnit | undefined): Result {
  const command = decodeCdb(pdu.cdb);
  if ('spec' in command && command.spec.verb === 'inquiry') {
    try {
      return { ...good, data: inquiry(command, undefined).subarray(0, command.allocation) };
    } catch (error) {
      if (error instanceof SenseError) return check(error.sense);
      throw error;
    }
  }
  const failure = unit === undefined || unit.gone ? notSupported : (unit.failure ?? notSupported);
  if ('spec' in command && command.spec.verb === 'requestSense') {
    const sense = encodeSense(failure, (command.cdb[1]! & 1) !== 0);
    return { ...good, data: sense.subarray(0, command.allocation) };
  }
  return check(failure);
}
