import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Debian's Chromium without a window, driven by its chromedriver (https://www.w3.org/TR/webdriver2/). */

const FLAGS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-dev-shm-usage'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
];

export interface Shape {
  readonly width: number;
  readonly height: number;
  readonly phone?: boolean;
}

export class Browser {
  readonly #session: string;
  readonly #end: () => void;

  private constructor(session: string, end: () => void) {
    this.#session = session;
    this.#end = end;
  }

  static async open(): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'zow-browser-'));
    const driver = spawn('setpriv', ['--pdeathsig', 'KILL', 'chromedriver', '--port=0'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const end = (): void => {
      driver.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    };
    try {
      let port: string | undefined;
      for await (const line of createInterface(driver.stdout)) {
        port = /started successfully on port (\d+)/.exec(line)?.[1];
        if (port !== undefined) break;
      }
      const chrome = { args: [...FLAGS, `--user-data-dir=${folder}`] };
      const logged = { 'goog:loggingPrefs': { browser: 'ALL' } };
      const capabilities = { alwaysMatch: { browserName: 'chrome', 'goog:chromeOptions': chrome, ...logged } };
      const { sessionId } = await ask<{ sessionId: string }>('POST', `http://127.0.0.1:${port}/session`, {
        capabilities,
      });
      return new Browser(`http://127.0.0.1:${port}/session/${sessionId}`, end);
    } catch (error) {
      end();
      throw error;
    }
  }

  async close(): Promise<void> {
    await ask('DELETE', this.#session).catch(() => undefined);
    this.#end();
  }

  async go(url: string): Promise<void> {
    await this.#post('url', { url });
  }

  /** The value of an expression in the page, which may be a promise. */
  evaluate<T>(expression: string): Promise<T> {
    return this.#post('execute/sync', { script: `return (${expression});`, args: [] });
  }

  /** What is read of an element; empty where there is none. */
  text(selector: string): Promise<string> {
    return this.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`);
  }

  /** As a user does; with `text`, the button that says so. Fails where there is none that can be seen. */
  async click(selector: string, text?: string): Promise<void> {
    const elements = await this.#find(selector);
    for (const element of elements) {
      if (text !== undefined && (await this.#of(element, 'text')) !== text) continue;
      if (!(await this.#of<boolean>(element, 'displayed'))) continue;
      await this.#post(`element/${element}/click`, {});
      return;
    }
    throw new Error(`nothing to click: ${selector} ${text ?? ''}`);
  }

  /** Types into a field, in the place of what was there. */
  async type(selector: string, text: string): Promise<void> {
    const [element] = await this.#find(selector);
    if (element === undefined) throw new Error(`no field: ${selector}`);
    await this.#post(`element/${element}/clear`, {});
    await this.#post(`element/${element}/value`, { text });
  }

  shape({ width, height, phone = false }: Shape): Promise<void> {
    return this.#devtools('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: phone });
  }

  colours(scheme: 'light' | 'dark'): Promise<void> {
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    return this.#devtools('Emulation.setEmulatedMedia', { features });
  }

  /** Errors of the page since the last call: of scripts, of the content security policy, of files that were not there. */
  async complaints(): Promise<string[]> {
    const entries = await this.#post<{ level: string; message: string }[]>('se/log', { type: 'browser' });
    return entries.map(({ level, message }) => `${level} ${message}`);
  }

  /** The whole page as a PNG. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.#devtools<{ data: string }>('Page.captureScreenshot', { captureBeyondViewport: true });
    return Buffer.from(data, 'base64');
  }

  async #find(selector: string): Promise<string[]> {
    const found = await this.#post<Record<string, string>[]>('elements', { using: 'css selector', value: selector });
    return found.map((reference) => Object.values(reference)[0]!);
  }

  #of<T = string>(element: string, what: string): Promise<T> {
    return ask('GET', `${this.#session}/element/${element}/${what}`);
  }

  #devtools<T = void>(cmd: string, params: object): Promise<T> {
    return this.#post('goog/cdp/execute', { cmd, params });
  }

  #post<T>(path: string, body: object): Promise<T> {
    return ask('POST', `${this.#session}/${path}`, body);
  }
}

async function ask<T>(method: string, url: string, body?: object): Promise<T> {
  const response = await fetch(url, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });
  const { value } = (await response.json()) as { value: T & { error?: string; message?: string } };
  if (!response.ok) throw new Error(`${method} ${new URL(url).pathname}: ${value.error}: ${value.message}`);
  return value;
}
