/** Numbers of iSCSI (RFC 7143), named as there. All integers on the wire are big-endian. */

/** Operation codes, 11.2.1.2: of the initiator below 0x20, of the target from there on. */
export const Opcode = {
  NOP_OUT: 0x00,
  SCSI_COMMAND: 0x01,
  TASK_MANAGEMENT_REQUEST: 0x02,
  LOGIN_REQUEST: 0x03,
  TEXT_REQUEST: 0x04,
  DATA_OUT: 0x05,
  LOGOUT_REQUEST: 0x06,
  SNACK_REQUEST: 0x10,
  NOP_IN: 0x20,
  SCSI_RESPONSE: 0x21,
  TASK_MANAGEMENT_RESPONSE: 0x22,
  LOGIN_RESPONSE: 0x23,
  TEXT_RESPONSE: 0x24,
  DATA_IN: 0x25,
  LOGOUT_RESPONSE: 0x26,
  R2T: 0x31,
  ASYNC_MESSAGE: 0x32,
  REJECT: 0x3f,
} as const;

/** Bits of byte 1. */
export const Flag = {
  FINAL: 0x80,
  /** Login and text: more of the same follows. */
  CONTINUE: 0x40,
  /** Login: the next stage. */
  TRANSIT: 0x80,
  /** SCSI Command. */
  READ: 0x40,
  WRITE: 0x20,
  /** SCSI Response and Data-In. */
  OVERFLOW: 0x04,
  UNDERFLOW: 0x02,
  /** Data-In: it has the command's status. */
  STATUS: 0x01,
} as const;

/** Stages of a login, 11.12.3. */
export const Stage = { SECURITY: 0, OPERATIONAL: 1, FULL_FEATURE: 3 } as const;

/** Status-Class and Status-Detail, 11.13.5, as one number. */
export const LoginStatus = {
  SUCCESS: 0x0000,
  INITIATOR_ERROR: 0x0200,
  AUTHENTICATION_FAILURE: 0x0201,
  AUTHORIZATION_FAILURE: 0x0202,
  NOT_FOUND: 0x0203,
  UNSUPPORTED_VERSION: 0x0205,
  TOO_MANY_CONNECTIONS: 0x0206,
  MISSING_PARAMETER: 0x0207,
  SESSION_TYPE_NOT_SUPPORTED: 0x0209,
  SESSION_DOES_NOT_EXIST: 0x020a,
  INVALID_DURING_LOGIN: 0x020b,
  SERVICE_UNAVAILABLE: 0x0301,
} as const;

/** Functions of a task management request, 11.5.1. */
export const TaskFunction = {
  ABORT_TASK: 1,
  ABORT_TASK_SET: 2,
  CLEAR_ACA: 3,
  CLEAR_TASK_SET: 4,
  LOGICAL_UNIT_RESET: 5,
  TARGET_WARM_RESET: 6,
  TARGET_COLD_RESET: 7,
  TASK_REASSIGN: 8,
} as const;

/** 11.6.1. */
export const TaskResponse = {
  COMPLETE: 0,
  TASK_DOES_NOT_EXIST: 1,
  LUN_DOES_NOT_EXIST: 2,
  REASSIGN_NOT_SUPPORTED: 4,
  NOT_SUPPORTED: 5,
} as const;

/** 11.14.1 and 11.15.1. */
export const LogoutReason = { CLOSE_SESSION: 0, CLOSE_CONNECTION: 1, REMOVE_FOR_RECOVERY: 2 } as const;
export const LogoutResponse = { SUCCESS: 0, CID_NOT_FOUND: 1, RECOVERY_NOT_SUPPORTED: 2 } as const;

/** 11.9.1. */
export const AsyncEvent = { SCSI: 0, LOGOUT_REQUESTED: 1, CONNECTION_DROPS: 2, SESSION_DROPS: 3 } as const;

/** 11.17.1. */
export const RejectReason = {
  SNACK: 0x03,
  PROTOCOL_ERROR: 0x04,
  NOT_SUPPORTED: 0x05,
  TOO_MANY_IMMEDIATE: 0x06,
  INVALID_PDU_FIELD: 0x09,
} as const;

/** Initiator and Target Transfer Tag that means none. */
export const RESERVED_TAG = 0xffff_ffff;

/** Basic header segment, bytes. */
export const BHS_BYTES = 48;
export const DIGEST_BYTES = 4;
/** Additional header segments: TotalAHSLength is one byte, in words (11.2.1.5). */
export const AHS_BYTES_MAX = 255 * 4;
/** MaxRecvDataSegmentLength during login (6.1 of RFC 7143), and where it is not declared. */
export const LOGIN_DATA_BYTES = 8192;

/** Names are at most as long (4.2.7.1). */
export const NAME_BYTES_MAX = 223;
/** The one portal group there is. */
export const PORTAL_GROUP = 1;
