// Calls of the gateway's API, authorised by the session's cookie.

/** An answer that is no success, as RFC 9457 tells it. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `The gateway answered ${status}.`);
    this.status = status;
    this.title = document.title || 'Not done';
    /** What is wrong with which field: `#/quantity` → text. */
    this.fields = new Map((document.errors || []).map((error) => [error.pointer, error.detail]));
  }
}

let whenLoggedOut = () => {};

/** Sets what happens when the session has ended. */
export const onLoggedOut = (then) => (whenLoggedOut = then);

/** The response of a success. */
const ask = async (method, path, headers, rest = {}) => {
  let response;
  try {
    // The header makes the browser ask first if another site's page tries the same; nobody answers that.
    response = await fetch(path, { method, headers: { ...headers, 'x-tollgate-csrf': '1' }, cache: 'no-store', ...rest });
  } catch {
    throw new Problem(0, { title: 'No answer', detail: 'The gateway does not answer. Is it running?' });
  }
  if (response.ok) return response;
  let document = {};
  try {
    document = await response.json();
  } catch {
    // A proxy's page, perhaps.
  }
  throw new Problem(response.status, document);
};

const send = async (method, path, headers, body) => {
  const response = await ask(method, path, headers, { body });
  const text = await response.text();
  return (response.headers.get('content-type') || '').includes('json') ? JSON.parse(text) : text;
};

/** What a call of the API throws where the session has ended is told first. */
const watched = async (answer) => {
  try {
    return await answer;
  } catch (problem) {
    if (problem.status === 401) whenLoggedOut();
    throw problem;
  }
};

/** Makes a call. `body`, if there is one, is sent as JSON. */
export const call = (method, path, body) => {
  const json = body === undefined ? {} : { 'content-type': 'application/json' };
  return watched(send(method, path, json, body === undefined ? undefined : JSON.stringify(body)));
};

export const get = (path) => call('GET', path);

/** What a path answers, as bytes. */
export const blob = async (path) => (await watched(ask('GET', path, {}))).blob();

/**
 * Reads server-sent events until the gateway ends the stream, or `signal` does; `take({ id, name, data })` gets each, `opened()` is
 * called before the first. (`EventSource` sends no header, and without ours a cookie opens no call of the API.)
 */
export const events = async (path, headers, signal, opened, take) => {
  const { body } = await watched(ask('GET', path, headers, { signal }));
  opened();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (text + value).split('\n\n');
    text = frames.pop();
    for (const frame of frames) {
      const fields = Object.fromEntries(frame.split('\n').map((line) => line.split(/: (.*)/s)));
      if (fields.data) take({ id: fields.id, name: fields.event, data: JSON.parse(fields.data) });
    }
  }
};

/** Who is logged in; null for nobody. */
export const session = async () => {
  try {
    return await send('GET', 'admin/session', {});
  } catch (problem) {
    if (problem.status === 401) return null;
    throw problem;
  }
};

export const logIn = (key) => send('POST', 'admin/session', { authorization: `Bearer ${key}` });
export const logOut = () => send('DELETE', 'admin/session', {}).catch(() => {});

/** A segment of a path. */
export const segment = encodeURIComponent;

/** A query of the fields that have a value. */
export const query = (fields) => {
  const given = Object.entries(fields).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : '';
};
