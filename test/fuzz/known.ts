/**
 * Ends of a core that are not mended, and why: what an injected fault does where OpenZFS panics too, and assertions of a debug
 * build behind which the code does what it should. Each that is found is counted and printed.
 */
export interface Known {
  /** In the message with which a core ended, or in the stack behind it. */
  readonly match: RegExp;
  /** Only where zinject had been at work. */
  readonly isInjected: boolean;
  readonly reason: string;
}

const metadata =
  'EIO of a block of the pool’s own, which zinject makes: upstream takes any error but ENOENT for impossible';

export const known: readonly Known[] = [
  { match: /\bmodule\/zfs\/dsl_dataset\.c.*\bload_zfeature\b/, isInjected: true, reason: metadata },
  {
    match: /\bmodule\/zfs\/dsl_dataset\.c.*\bdsl_dataset_get_remap_deadlist_object\b/,
    isInjected: true,
    reason: metadata,
  },
  { match: /\bmodule\/zfs\/spa_log_spacemap\.c.*\bspa_generate_syncing_log_sm\b/, isInjected: true, reason: metadata },
  { match: /\bmodule\/zfs\/space_map\.c.*\bspace_map_free_obj\b/, isInjected: true, reason: metadata },
  {
    // Also by a path that is another disk's.
    match: /^it does not answer any more; tank is SUSPENDED/,
    isInjected: false,
    reason:
      'the pool was suspended while a request waited for SCL_CONFIG as its writer: who asks for pools then waits for that ' +
      'one with the namespace, and so does zpool clear (docs/limits.md)',
  },
  {
    match: /\bmca->mca_reserved\b/,
    isInjected: true,
    reason: 'zinject -I: what was reserved for a write that is ignored is not given back',
  },
  {
    match: /\bspa_errata\b.*\bdsl_crypto_populate_key_nvlist\b/,
    isInjected: false,
    reason: 'an assertion only: zfs send -w of a data set that is no snapshot has no to_ivset_guid to send',
  },
  {
    match: /\bdrrw->drr_logical_size, >, dn->dn_datablksz\b/,
    isInjected: false,
    reason: 'an assertion only: a record that is smaller than its object’s block is written as a part of it',
  },
  {
    match: /\bdscp->dsc_resume_object\b.*\bdmu_send_impl\b/,
    isInjected: false,
    reason:
      'an assertion only: zfs send goes on at the block that the offset of the client is in, which may begin before it',
  },
  {
    match: /\bds_resume_object\b.*\bsave_resume_state\b/,
    isInjected: false,
    reason: 'an assertion only: a stream whose objects are out of order resumes at what came last (receive_resume.c)',
  },
  {
    match: /!copied, ==, hdr->b_l1hdr\.b_freeze_cksum\b/,
    isInjected: false,
    reason: 'an assertion only, as openzfs/zfs#10943: a checksum that was made when others had the data decompressed',
  },
  {
    match: /failure mode property for this pool is set to panic/,
    isInjected: false,
    reason: 'failmode=panic, which the fuzzer set, and a disk that it took away',
  },
  {
    match: /\bvd->vdev_psize\b.*\bzio_read_phys\b.*\bvdev_probe\b.*\bvdev_remove_wanted\b/,
    isInjected: false,
    reason: 'an assertion only: a disk that was never opened is probed when it is said to be gone, and not read',
  },
];
