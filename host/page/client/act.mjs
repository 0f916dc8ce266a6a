import { byId, h, say } from './dom.mjs';

/** What can be done, and who may: every command is shown before it is run, and the host makes it of what is asked. */

const STORE = 'zow-token';
const dialog = /** @type {HTMLDialogElement} */ (byId('dialog'));
const button = byId('access');
/** @type {string} */
let access = 'nobody';

button.addEventListener('click', () => {
  if (mayAct() && access === 'token') lock();
  else unlock();
});

/** @param {string} who as the host says it: nobody, token, everybody */
export function setAccess(who) {
  access = who;
  show();
}

function mayAct() {
  return access === 'everybody' || (access === 'token' && sessionStorage.getItem(STORE) !== null);
}

function show() {
  document.body.dataset.may = mayAct() ? 'yes' : 'no';
  button.hidden = access !== 'token';
  say(button, mayAct() ? 'Lock' : 'Unlock');
}

function lock() {
  sessionStorage.removeItem(STORE);
  show();
}

/**
 * @param {object} what
 * @param {string | null} [token]
 * @returns {Promise<{ ok: boolean, status: number, text: string, answer?: any }>} `text` is why not
 */
async function send(what, token = sessionStorage.getItem(STORE)) {
  try {
    const response = await fetch('act', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(token !== null && { Authorization: `Bearer ${token}` }) },
      body: JSON.stringify(what),
    });
    const text = (await response.text()).trim();
    const { ok, status } = response;
    return ok ? { ok, status, text: '', answer: JSON.parse(text) } : { ok, status, text };
  } catch {
    return { ok: false, status: 0, text: 'the host does not answer' };
  }
}

/**
 * Opens the dialog.
 * @param {string} title
 * @param {...(Node | string)} content
 */
function open(title, ...content) {
  dialog.replaceChildren(h('h2', { id: 'dialog-title' }, title), ...content);
  if (!dialog.open) dialog.showModal();
}

/** @param {string} label */
function closer(label) {
  return h('button', { type: 'button', click: () => dialog.close() }, label);
}

function unlock() {
  const input = h('input', { type: 'password', autocomplete: 'current-password', required: true });
  const wrong = h('p', { class: 'wrong', role: 'alert' });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const token = input.value.trim();
    const { ok, text } = await send({ do: 'nothing' }, token);
    if (!ok) {
      say(wrong, text);
      return;
    }
    sessionStorage.setItem(STORE, token);
    show();
    dialog.close();
  };
  open(
    'Unlock',
    h(
      'p',
      {},
      'With the token of the configuration (http.token) this page can change pools and volumes. It is kept until this tab is closed.',
    ),
    h(
      'form',
      { submit },
      // For who keeps passwords.
      h('input', { type: 'text', autocomplete: 'username', value: 'zow', hidden: true }),
      h('label', {}, 'Token', input),
      wrong,
      h('div', { class: 'buttons' }, closer('Cancel'), h('button', { class: 'main' }, 'Unlock')),
    ),
  );
}

/**
 * @typedef {{
 *   name: string, label: string, type?: 'text' | 'checkbox', value?: string, checked?: boolean,
 *   options?: readonly string[], hint?: string,
 * }} Field
 */

/**
 * Asks for what is missing, shows the command, and runs it.
 * @param {string} title
 * @param {Record<string, string>} fixed what is known: `do`, and what it is done to
 * @param {readonly Field[]} [fields]
 * @param {string} [warning]
 */
export function ask(title, fixed, fields = [], warning = '') {
  const inputs = fields.map(inputOf);
  const command = h('code', { class: 'command' });
  const wrong = h('p', { class: 'wrong', role: 'alert' });
  const confirm = h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false' });
  const confirmName = h('b');
  const confirmation = h('label', { hidden: true }, h('span', {}, 'Type ', confirmName, ' to go on'), confirm);
  const run = h('button', { class: warning === '' ? 'main' : 'danger', disabled: true }, 'Run');
  /** @type {string | null} */
  let needed = null;
  let known = false;
  let latest = 0;

  const values = () => ({ ...fixed, ...Object.fromEntries(inputs.map(({ name, value }) => [name, value()])) });
  const allow = () => {
    run.disabled = !known || (needed !== null && confirm.value !== needed);
  };
  const preview = async () => {
    const mine = ++latest;
    const { status, text, answer = {} } = await send({ ...values(), run: false });
    if (mine !== latest) return;
    known = answer.command !== undefined;
    if (status === 401) lock();
    const problem = answer.problem ?? text;
    // What is not filled in yet is no mistake.
    say(wrong, /: is missing$/.test(problem) ? '' : problem);
    say(command, answer.command ?? '');
    needed = answer.confirm ?? null;
    confirmation.hidden = needed === null;
    say(confirmName, needed ?? '');
    allow();
  };
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (run.disabled) return;
    run.disabled = true;
    say(run, 'Running');
    const { ok, text, answer } = await send({
      ...values(),
      run: true,
      ...(needed !== null && { confirm: confirm.value }),
    });
    say(run, 'Run');
    if (ok) showResult(answer);
    else {
      say(wrong, text);
      allow();
    }
  };
  confirm.addEventListener('input', allow);
  for (const { input } of inputs) input.addEventListener('input', () => void preview());
  open(
    title,
    ...(warning === '' ? [] : [h('p', { class: 'warning' }, warning)]),
    h(
      'form',
      { submit },
      ...inputs.map(({ element }) => element),
      h('p', { class: 'runs' }, 'Runs ', command),
      confirmation,
      wrong,
      h('div', { class: 'buttons' }, closer('Cancel'), run),
    ),
  );
  void preview();
}

/** @param {{ command: string, code: number, output: string }} result */
function showResult({ command, code, output }) {
  const worked = code === 0;
  open(
    worked ? 'Done' : 'It failed',
    h('p', { class: 'runs' }, worked ? 'Ran ' : `Ended with ${code}: `, h('code', { class: 'command' }, command)),
    ...(output.trim() === '' ? [] : [h('pre', { class: worked ? '' : 'wrong' }, output)]),
    h('div', { class: 'buttons' }, closer('Close')),
  );
}

/** @param {Field} field */
function inputOf({ name, label, type = 'text', value = '', checked = false, options, hint }) {
  if (type === 'checkbox') {
    const input = h('input', { type, name, checked });
    return { name, input, value: () => input.checked, element: h('label', { class: 'check' }, input, label) };
  }
  const input =
    options === undefined
      ? h('input', { type, name, value, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' })
      : h('select', { name }, ...options.map((option) => h('option', { value: option }, option || 'default')));
  const words = hint === undefined ? label : `${label} (${hint})`;
  return { name, input, value: () => input.value.trim(), element: h('label', {}, words, input) };
}
