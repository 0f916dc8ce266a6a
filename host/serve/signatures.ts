interface Signature {
  readonly what: string;
  readonly offset: number;
  /** Latin-1 text of the magic bytes. */
  readonly magic: string;
}

/** The usual content of disks, by magic number (util-linux's libblkid has them all). The first match names it. */
const SIGNATURES: readonly Signature[] = [
  { what: 'a qcow2 image', offset: 0, magic: 'QFI\xfb' },
  { what: 'a LUKS volume', offset: 0, magic: 'LUKS\xba\xbe' },
  { what: 'an XFS file system', offset: 0, magic: 'XFSB' },
  { what: 'an LVM physical volume', offset: 512, magic: 'LABELONE' },
  { what: 'an NTFS file system', offset: 3, magic: 'NTFS    ' },
  { what: 'an ext2, ext3 or ext4 file system', offset: 0x438, magic: '\x53\xef' },
  { what: 'a btrfs file system', offset: 0x10040, magic: '_BHRfS_M' },
  { what: 'a Linux swap area', offset: 4086, magic: 'SWAPSPACE2' },
  { what: 'a RAID member (md)', offset: 4096, magic: '\xfc\x4e\x2b\xa9' },
  { what: 'a GPT partition table', offset: 512, magic: 'EFI PART' },
  { what: 'a GPT partition table', offset: 4096, magic: 'EFI PART' },
  { what: 'an ISO 9660 file system', offset: 0x8001, magic: 'CD001' },
  { what: 'a partition table or a boot sector', offset: 510, magic: '\x55\xaa' },
];

/** `an ext4 file system`, for messages; undefined when the start of a disk looks like nothing known. */
export function knownContent(head: Uint8Array): string | undefined {
  const buffer = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  return SIGNATURES.find(({ offset, magic }) => buffer.toString('latin1', offset, offset + magic.length) === magic)
    ?.what;
}
