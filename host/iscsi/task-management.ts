import { TaskFunction, TaskResponse } from './constants.ts';
import type { Pdu } from './pdu.ts';
import type { SessionUnits } from './session-units.ts';

/**
 * Carries out a task management function (RFC 7143, 11.5). Resolves with the response, when nothing of what is aborted runs
 * any more. `abortTask` is ABORT TASK of a command of the session, false where there is none; `dropSession` ends it after a cold reset.
 */
export async function runTaskFunction(
  pdu: Pdu,
  units: SessionUnits,
  session: { abortTask(itt: number): Promise<boolean>; dropSession(): void },
): Promise<number> {
  switch (pdu.function) {
    case TaskFunction.ABORT_TASK:
      return (await session.abortTask(pdu.ttt)) ? TaskResponse.COMPLETE : TaskResponse.TASK_DOES_NOT_EXIST;
    case TaskFunction.TARGET_WARM_RESET:
      await units.reset();
      return TaskResponse.COMPLETE;
    case TaskFunction.TARGET_COLD_RESET:
      await units.reset();
      session.dropSession();
      return TaskResponse.COMPLETE;
    case TaskFunction.TASK_REASSIGN:
      return TaskResponse.REASSIGN_NOT_SUPPORTED;
    case TaskFunction.ABORT_TASK_SET:
    case TaskFunction.CLEAR_TASK_SET:
    case TaskFunction.LOGICAL_UNIT_RESET:
      return ofUnit(pdu, units);
    default:
      return TaskResponse.NOT_SUPPORTED;
  }
}

async function ofUnit(pdu: Pdu, units: SessionUnits): Promise<number> {
  const unit = units.of(pdu.lun);
  if (unit === undefined) return TaskResponse.LUN_DOES_NOT_EXIST;
  const { nexus } = unit;
  const logical = await units.logicalUnit(unit);
  if (logical === undefined) return TaskResponse.COMPLETE; // nobody has asked anything of it
  if (pdu.function === TaskFunction.ABORT_TASK_SET) await logical.tasks.abort((task) => task.nexus === nexus);
  else if (pdu.function === TaskFunction.CLEAR_TASK_SET) await logical.clearTasks(nexus);
  else await logical.reset();
  return TaskResponse.COMPLETE;
}
