import { readPageFile } from '../assets.ts';
import type { Route } from '../http/server.ts';
import { PAGE_FILES } from './files.ts';

const types = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  mjs: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
} as const;

/**
 * The page runs nothing but its own files, is in no frame, sends no form, and makes no HTML of text: names of pools, disks
 * and whatever an event has are text.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** The files of the page. */
export function assetRoutes(): (readonly [path: string, route: Route])[] {
  return PAGE_FILES.map((name) => {
    const body = readPageFile(name);
    const type = types[name.split('.')[1] as keyof typeof types];
    const headers = {
      'Content-Security-Policy': POLICY,
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Referrer-Policy': 'no-referrer',
    };
    return [name === 'index.html' ? '/' : `/${name}`, () => ({ status: 200, type, body, headers })] as const;
  });
}
