/** Where an export is. */
export type NbdAddress = (
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** An absolute path. */
  | { readonly kind: 'unix'; readonly path: string }
) & { readonly exportName: string };

/** `10.0.0.2:10809/disk`, `nbd+unix:///disk?socket=/run/nbd.sock`: as people write it, and equal for the same export. */
export function addressText(address: NbdAddress): string {
  const { exportName } = address;
  if (address.kind === 'unix') return `nbd+unix:///${encodeURI(exportName)}?socket=${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${host}:${address.port}/${exportName}`;
}
