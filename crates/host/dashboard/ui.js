// What the views are made of.
import { h, createContext } from './preact.js';
import { useContext, useEffect, useId, useLayoutEffect, useRef, useState } from './hooks.js';
import htm from './htm.js';
import { call, get, Problem } from './api.js';

export const html = htm.bind(h);

/** `{ key, may(scope), announce(text) }` */
export const Session = createContext(null);
export const useSession = () => useContext(Session);

const plain = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const when = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const exactly = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** Bytes in the largest unit of which there is one. */
export const size = (bytes) => {
  const unit = [['GiB', 1 << 30], ['MiB', 1 << 20], ['KiB', 1 << 10]].find(([, one]) => bytes >= one);
  return unit ? `${decimal(bytes / unit[1])} ${unit[0]}` : `${number(bytes)} B`;
};
export const number = (value) => plain.format(value);
/** A rate, or a mean. */
export const decimal = (value) => (value >= 100 ? plain.format(Math.round(value)) : short.format(value));
export const percent = (part, whole) => (whole ? `${short.format((100 * part) / whole)} %` : '–');

/** A duration in words: `90` → `1 min 30 s`. */
export const duration = (seconds) => {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min']];
  const said = [];
  let rest = seconds;
  for (const [size, name] of units) {
    if (rest >= size) said.push(`${Math.floor(rest / size)} ${name}`);
    rest %= size;
  }
  if (rest || !said.length) said.push(`${Number(rest.toFixed(3))} s`);
  return said.slice(0, 2).join(' ');
};

/** A time in words. */
export const moment = (at) => when.format(new Date(at));

/** `exact`: to the second. */
export const Time = ({ at, none = '–', exact }) =>
  at ? html`<time datetime=${at} title=${at}>${(exact ? exactly : when).format(new Date(at))}</time>` : none;

/** An RFC 3339 time as `<input type="datetime-local">` has it, and back. */
const toLocal = (at) => {
  if (!at) return '';
  const date = new Date(at);
  return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
};
const fromLocal = (text) => (text ? new Date(text).toISOString() : null);

/** A state in words and colour. `tone`: good, warn, bad, quiet. */
export const Badge = ({ tone = 'quiet', children }) => html`<span class="badge ${tone}">${children}</span>`;

export const Empty = ({ title, children, command }) => html`
  <div class="empty">
    <p class="what">${title}</p>
    <p>${children}</p>
    ${command && html`<${Command} text=${command} />`}
  </div>`;

/** A command line to copy. */
export const Command = ({ text }) => html`
  <div class="command"><pre tabindex="0" role="group" aria-label="Command line"><code>${text}</code></pre><${Copy} text=${text} /></div>`;

export const Copy = ({ text, label = 'Copy' }) => {
  const [done, setDone] = useState(false);
  const { announce } = useSession();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      announce('Copied.');
      setTimeout(() => setDone(false), 2000);
    } catch {
      announce('The browser did not let us copy.');
    }
  };
  return html`<button type="button" class="small" onClick=${copy}>${done ? 'Copied' : label}</button>`;
};

/** A command line for the API of this very gateway. */
export const curl = (method, path, body) => {
  const lines = [`curl ${method === 'GET' ? '' : `-X ${method} `}${location.origin}${path}`];
  if (!/\/(claims|entries)$/.test(path)) lines.push(`  -H "authorization: Bearer $KEY"`);
  else lines.push(`  -H "x-user-id: alice"`);
  if (body) lines.push(`  --json '${JSON.stringify(body)}'`);
  return lines.join(' \\\n');
};

export const Failure = ({ problem, again }) => html`
  <div class="notice bad" role="alert">
    <p><strong>${problem.status === 403 ? 'Your key does not reach this far' : problem.title}</strong></p>
    <p>${problem.message}</p>
    ${again && problem.status !== 403 && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;

export const Loading = () => html`<p class="loading" role="status">Loading …</p>`;

/**
 * What a path answers: `{ data, problem, reload }`; null: nothing is asked. `every`: milliseconds after which it is asked again, while
 * somebody looks; `known`: it is asked again when this is another one.
 */
export const useAnswer = (path, every = 0, known = null) => {
  const [state, setState] = useState({ path, data: null, problem: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    let current = true;
    let timer = 0;
    const ask = async () => {
      clearTimeout(timer);
      try {
        if (!document.hidden) {
          const data = await get(path);
          if (current) setState({ path, data, problem: null });
        }
      } catch (problem) {
        if (current) setState((before) => ({ path, data: before.path === path ? before.data : null, problem }));
      }
      if (current && every) timer = setTimeout(ask, every);
    };
    ask();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [path, turn, every, known]);
  const shown = state.path === path ? state : { data: null, problem: null };
  return { ...shown, reload: () => setTurn((n) => n + 1) };
};

/** Pages of a list: `item` says under which name the path answers them. */
export const usePages = (path, item) => {
  const [cursors, setCursors] = useState([null]);
  useEffect(() => setCursors([null]), [path]);
  const cursor = cursors.at(-1);
  const joint = path.includes('?') ? '&' : '?';
  const answer = useAnswer(cursor ? `${path}${joint}cursor=${encodeURIComponent(cursor)}` : path);
  const next = answer.data?.nextCursor;
  return {
    ...answer,
    items: answer.data?.[item] ?? null,
    page: cursors.length,
    next: next ? () => setCursors([...cursors, next]) : null,
    back: cursors.length > 1 ? () => setCursors(cursors.slice(0, -1)) : null,
  };
};

export const Pager = ({ pages }) =>
  (pages.next || pages.back) && html`
    <nav class="pager" aria-label="Pages">
      <button type="button" disabled=${!pages.back} onClick=${pages.back}>Back</button>
      <span aria-live="polite">Page ${pages.page}</span>
      <button type="button" disabled=${!pages.next} onClick=${pages.next}>Next</button>
    </nav>`;

/** A table that scrolls by itself where it is too wide. */
export const Table = ({ label, columns, children }) => html`
  <div class="scroll" role="region" aria-label=${label} tabindex="0">
    <table>
      <thead><tr>${columns.map(([name, kind]) => html`<th scope="col" class=${kind}>${name}</th>`)}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;

/** What the focus goes back to: the same element, the one drawn in its place meanwhile, or the heading of the view. */
const successor = (before) =>
  before?.isConnected ? before : ([...document.querySelectorAll('main button, main a')].find((one) => before?.ariaLabel && one.ariaLabel === before.ariaLabel) ?? document.querySelector('main h1'));

/** A dialog of the browser's own: it keeps the focus, and gives it back. */
export const Dialog = ({ title, close, children }) => {
  const dialog = useRef(null);
  const id = useId();
  useLayoutEffect(() => {
    const shown = dialog.current;
    const before = document.activeElement;
    shown.showModal();
    return () => {
      // Closed before it is removed: so the browser gives the focus back, as a rule.
      shown.close();
      const after = successor(before);
      if (document.activeElement !== after) after?.focus();
    };
  }, []);
  return html`
    <dialog ref=${dialog} aria-labelledby=${id} onCancel=${(event) => (event.preventDefault(), close())}>
      <header><h2 id=${id}>${title}</h2><button type="button" class="quiet" aria-label="Close" onClick=${close}>✕</button></header>
      ${children}
    </dialog>`;
};

/** Asks before something is done that cannot be undone. */
export const Confirm = ({ title, children, action, act, close, done }) => {
  const { announce } = useSession();
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const go = async () => {
    setBusy(true);
    try {
      await act();
      announce(done);
      close(true);
    } catch (caught) {
      setProblem(caught);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title=${title} close=${() => close(false)}>
      <div class="text">${children}</div>
      ${problem && html`<${Failure} problem=${problem} />`}
      <footer>
        <button type="button" autofocus onClick=${() => close(false)}>Cancel</button>
        <button type="button" class="danger" disabled=${busy} onClick=${go}>${action}</button>
      </footer>
    <//>`;
};

/** A button that makes a call at once, and says what came of it. `of`: what it is about, for who hears it among others. */
export const Act = ({ label, act, done, kind = '', of }) => {
  const { announce } = useSession();
  const [busy, setBusy] = useState(false);
  const go = async () => {
    setBusy(true);
    try {
      const said = await act();
      announce(typeof said === 'string' ? said : done);
    } catch (problem) {
      announce(problem.message, 'bad');
    }
    setBusy(false);
  };
  return html`<button type="button" class=${kind} disabled=${busy} aria-label=${of ? `${label} ${of}` : undefined} onClick=${go}>${label}</button>`;
};

const readers = {
  number: (input) => (input.value === '' ? null : Number(input.value)),
  time: (input) => fromLocal(input.value),
  flag: (input) => input.checked,
  words: (input) => input.value.split(',').map((word) => word.trim()).filter(Boolean),
  lines: (input) => input.value.split('\n').map((line) => line.trim()).filter(Boolean),
  // What is no JSON is sent as it is: the answer says what is wrong with it.
  json: (input) => {
    try {
      return input.value.trim() === '' ? [] : JSON.parse(input.value);
    } catch {
      return input.value;
    }
  },
  text: (input) => (input.value === '' ? null : input.value),
};

const Control = ({ field, id, value, describedBy, invalid }) => {
  const shared = { id, name: field.name, 'aria-describedby': describedBy || undefined, 'aria-invalid': invalid ? 'true' : undefined };
  const required = field.required;
  switch (field.kind) {
    case 'flag':
      return html`<input type="checkbox" defaultChecked=${Boolean(value)} ...${shared} />`;
    case 'choice':
      return html`<select ...${shared} onChange=${field.choose && ((event) => field.choose(event.target.value))}>${field.choices.map(([key, text]) => html`<option value=${key} selected=${key === String(value ?? '')}>${text}</option>`)}</select>`;
    case 'number':
      return html`<input type="number" inputmode="numeric" min=${field.min} max=${field.max} step=${field.step || 1} defaultValue=${value ?? ''} required=${required} ...${shared} />`;
    case 'time':
      return html`<input type="datetime-local" defaultValue=${toLocal(value)} required=${required} ...${shared} />`;
    case 'lines':
      return html`<textarea rows="8" spellcheck=${false} required=${required} placeholder=${field.placeholder} ...${shared}></textarea>`;
    case 'long':
      return html`<textarea rows="4" spellcheck=${false} required=${required} placeholder=${field.placeholder} ...${shared}>${value ?? ''}</textarea>`;
    case 'json':
      return html`<textarea rows="3" spellcheck=${false} placeholder=${field.placeholder} ...${shared}>${value?.length ? JSON.stringify(value, null, 1) : ''}</textarea>`;
    default:
      return html`<input type=${field.input || 'text'} defaultValue=${Array.isArray(value) ? value.join(', ') : (value ?? '')} required=${required} placeholder=${field.placeholder} maxlength=${field.max} autocomplete="off" spellcheck=${false} ...${shared} />`;
  }
};

/**
 * A form for a call. `fields`: `{ name, label, kind, hint, required, pointer? }`; what an answer says of `#/name` stands at its
 * field. `submit` gets the values, those without one as null.
 */
export const Form = ({ fields, initial = {}, action, submit, close }) => {
  const form = useRef(null);
  const base = useId();
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const pointers = new Map(fields.map((field) => [field.pointer || `#/${field.name}`, field.name]));
  const faults = new Map();
  const others = [];
  for (const [pointer, detail] of problem?.fields || []) {
    // A fault inside a field is the field's.
    const owner = [...pointers.keys()].find((own) => pointer === own || pointer.startsWith(`${own}/`));
    if (owner) faults.set(pointers.get(owner), detail);
    else others.push(`${pointer}: ${detail}`);
  }
  useLayoutEffect(() => {
    const [first] = faults.keys();
    if (first) form.current.elements.namedItem(first)?.focus();
  }, [problem]);
  const go = async (event) => {
    event.preventDefault();
    const values = {};
    for (const { name, kind } of fields) values[name] = (readers[kind] || readers.text)(form.current.elements.namedItem(name));
    setBusy(true);
    try {
      await submit(values);
    } catch (caught) {
      setProblem(caught instanceof Problem ? caught : new Problem(0, { detail: String(caught) }));
    }
    setBusy(false);
  };
  return html`
    <form ref=${form} onSubmit=${go}>
      ${problem && !faults.size && html`<div class="notice bad" role="alert"><p><strong>${problem.title}</strong></p><p>${others.join('; ') || problem.message}</p></div>`}
      ${fields.map((field) => {
        const id = `${base}-${field.name}`;
        const fault = faults.get(field.name);
        const describedBy = [field.hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(' ');
        return html`
          <div class="field ${field.kind === 'flag' ? 'flag' : ''}" key=${field.name}>
            <label for=${id}>${field.label}${field.required ? '' : field.kind === 'flag' || field.kind === 'choice' ? '' : html` <small>optional</small>`}</label>
            <${Control} field=${field} id=${id} value=${initial[field.name]} describedBy=${describedBy} invalid=${fault} />
            ${field.hint && html`<p class="hint" id="${id}-hint">${field.hint}</p>`}
            ${fault && html`<p class="fault" id="${id}-fault" role="alert">${fault}</p>`}
          </div>`;
      })}
      <footer>
        ${close && html`<button type="button" onClick=${close}>Cancel</button>`}
        <button type="submit" class="primary" disabled=${busy}>${action}</button>
      </footer>
    </form>`;
};

/** Only the values that differ from what there is: a merge patch. */
export const changes = (values, before) =>
  Object.fromEntries(Object.entries(values).filter(([name, value]) => !same(value, before[name])));

const same = (a, b) => {
  if (Array.isArray(a) || Array.isArray(b)) return JSON.stringify(a || []) === JSON.stringify(b || []);
  // To the minute, which is as exactly as the control shows it.
  if (typeof a === 'string' && typeof b === 'string' && /^\d{4}-.*Z$/.test(a) && b) return toLocal(a) === toLocal(b);
  return (a ?? null) === (b ?? null);
};

/** The values without those that are not there: a new thing takes its defaults. */
export const given = (values) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && !(Array.isArray(value) && !value.length)));

const WIDTH = 160;
const HEIGHT = 36;

/** A line of the last values. `label` says it in words. */
export const Spark = ({ values, label, tall }) => {
  const most = Math.max(1, ...values);
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`);
  const line = points.join(' ');
  return html`
    <svg class="spark ${tall ? 'tall' : ''}" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${label}>
      ${values.length > 1 && html`
        <polygon points="0,${HEIGHT} ${line} ${WIDTH},${HEIGHT}" />
        <polyline points=${line} vector-effect="non-scaling-stroke" />`}
    </svg>`;
};

/** The most bars of a picture: beyond, neighbours are added up. */
const BARS = 120;

/** Bars of `{ name, value }`, in their order. `label` says what they are; each says itself to who points at it. */
export const Bars = ({ bars, label }) => {
  const each = Math.ceil(bars.length / BARS);
  const joint = [];
  for (let at = 0; at < bars.length; at += each) {
    const some = bars.slice(at, at + each);
    joint.push({ name: some[0].name, value: some.reduce((sum, bar) => sum + bar.value, 0) });
  }
  const most = Math.max(1, ...joint.map((bar) => bar.value));
  const best = joint.find((bar) => bar.value === most);
  const said = best ? `${label}; most: ${plain.format(best.value)}, ${best.name}` : `${label}; none`;
  const step = WIDTH / Math.max(1, joint.length);
  const gap = Math.min(1, step / 5);
  return html`
    <figure class="bars">
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${said}>
        ${joint.map(({ name, value }, index) => {
          const height = value ? Math.max(1, (value / most) * HEIGHT) : 0.3;
          return html`<rect key=${index} x=${(index * step).toFixed(2)} y=${(HEIGHT - height).toFixed(2)} width=${(step - gap).toFixed(2)} height=${height.toFixed(2)}><title>${name}: ${plain.format(value)}</title></rect>`;
        })}
      </svg>
      <figcaption><span>${joint[0]?.name}</span> <span>most: <strong>${plain.format(best ? best.value : 0)}</strong></span> <span>${joint.at(-1)?.name}</span></figcaption>
    </figure>`;
};

/** A number with its name, and perhaps its last minutes. */
export const Tile = ({ name, value, unit, note, values, tone, href }) => html`
  <div class="tile ${tone || ''}">
    <dt>${href ? html`<a href=${href}>${name}</a>` : name}</dt>
    <dd>
      <span class="value">${value}${unit && html` <small>${unit}</small>`}</span>
      ${note && html`<span class="note">${note}</span>`}
      ${values && html`<${Spark} values=${values} label="${name}, the last minutes; now ${value} ${unit || ''}" />`}
    </dd>
  </div>`;

/** What is left of a stock. */
export const Stock = ({ campaign }) => {
  const { remaining, quantity } = campaign;
  const share = quantity ? remaining / quantity : 0;
  return html`
    <div class="stock">
      <meter min="0" max=${quantity} low=${quantity / 10} value=${remaining} aria-label="Units of ${campaign.id} left">${percent(remaining, quantity)}</meter>
      <div class="bar ${share === 0 ? 'none' : share <= 0.1 ? 'low' : ''}" aria-hidden="true"><i style=${{ width: `${share * 100}%` }}></i></div>
    </div>`;
};

/** Whether somebody has moved here: a page that was just loaded begins at its top. */
export const arrival = { moved: false };

/** The heading of a view; focused when somebody has moved there, so that a screen reader says it. */
export const Head = ({ title, children, back }) => {
  const heading = useRef(null);
  useLayoutEffect(() => {
    document.title = `${title} · Tollgate`;
    if (!arrival.moved) return;
    if (document.activeElement === document.body || document.activeElement?.closest('nav, .link')) heading.current.focus();
  }, [title]);
  return html`
    <div class="head">
      <div>${back && html`<a class="back" href=${back[0]}>← ${back[1]}</a>`}<h1 tabindex="-1" ref=${heading}>${title}</h1></div>
      <div class="actions">${children}</div>
    </div>`;
};

export { call, get };
