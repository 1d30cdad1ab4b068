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

const send = async (method, path, headers, body) => {
  let response;
  try {
    // The header makes the browser ask first if another site's page tries the same; nobody answers that.
    response = await fetch(path, { method, headers: { ...headers, 'x-tollgate-csrf': '1' }, body, cache: 'no-store' });
  } catch {
    throw new Problem(0, { title: 'No answer', detail: 'The gateway does not answer. Is it running?' });
  }
  const text = await response.text();
  if (response.ok) return (response.headers.get('content-type') || '').includes('json') ? JSON.parse(text) : text;
  let document = {};
  try {
    document = JSON.parse(text);
  } catch {
    // A proxy's page, perhaps.
  }
  throw new Problem(response.status, document);
};

/** Makes a call. `body`, if there is one, is sent as JSON. */
export const call = async (method, path, body) => {
  const json = body === undefined ? {} : { 'content-type': 'application/json' };
  try {
    return await send(method, path, json, body === undefined ? undefined : JSON.stringify(body));
  } catch (problem) {
    if (problem.status === 401) whenLoggedOut();
    throw problem;
  }
};

export const get = (path) => call('GET', path);

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
