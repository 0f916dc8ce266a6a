import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';

/**
 * Whether a request with that Host header is for this host. A page of somebody else's in a browser on this machine can
 * have its name resolve to 127.0.0.1 and ask here as if it were the same site (DNS rebinding), but what it asks for has
 * its name. Addresses are resolved by nobody, so they are always good. `names`, in lower case, are the others that are.
 */
export function isOurs(header: string | undefined, names: readonly string[]): boolean {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/.exec((header ?? '').toLowerCase());
  if (match === null) return false;
  const [, bracketed, plain = ''] = match;
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  return isIP(plain) === 4 || plain === 'localhost' || plain === hostname().toLowerCase() || names.includes(plain);
}

/**
 * Whether a browser says that the request was made by a page of another site (CSRF): by its fetch metadata, and by its
 * Origin, which has to be the host that is asked. Clients that are no browsers say neither.
 */
export function isCrossSite({ host = '', origin, 'sec-fetch-site': site }: IncomingHttpHeaders): boolean {
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true;
  // Something before us may have taken TLS off.
  return origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`;
}
