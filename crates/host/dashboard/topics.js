// The origin queue: topics, their subscriptions, and what an origin did not take.
import { useState } from './hooks.js';
import { lagOf, live, rate, rates, toFetch, useLive } from './live.js';
import { call, segment } from './api.js';
import { AGAIN, DeadLetters, inRounds } from './letters.js';
import { Groups } from './groups.js';
import { Deliveries } from './deliveries.js';
import { BATCHES, SINKS } from './sinks.js';
import {
  Act, Badge, Command, Confirm, Copy, Dialog, Empty, Failure, Form, Head, Loading, Pager, Spark, Table, Tile, Time,
  curl, decimal, duration, given, html, moment, number, size, useAnswer, usePages, useSession,
} from './ui.js';

const newest = (topic) => live.topics?.topics.find((one) => one.name === topic.name) || topic;

const Standing = ({ topic }) => {
  const paused = topic.subscriptions.filter((one) => one.paused).length;
  if (paused > 0) return html`<${Badge} tone="warn">${paused} paused<//>`;
  if (lagOf([topic]) > 0) return html`<${Badge}>Delivering<//>`;
  if (topic.subscriptions.length) return html`<${Badge} tone="good">Delivered<//>`;
  if (topic.groups.length) return toFetch([topic]) > 0 ? html`<${Badge}>To fetch<//>` : html`<${Badge} tone="good">Fetched<//>`;
  return html`<${Badge}>No consumer<//>`;
};

const Card = ({ topic }) => {
  return html`
    <li class="card">
      <header><h2><a class="link" href="#/topics/${segment(topic.name)}">${topic.name}</a></h2>
        <${Standing} topic=${topic} />
      </header>
      <p class="figure"><strong>${number(topic.depth)}</strong> kept</p>
      <div class="row">
        ${(topic.subscriptions.length > 0 || !topic.groups.length) && html`<span><strong>${number(lagOf([topic]))}</strong> to deliver</span>`}
        ${topic.groups.length > 0 && html`<span><strong>${number(toFetch([topic]))}</strong> to fetch</span>`}
        <span><strong>${decimal(rate(`topic/${topic.name}`))}</strong> / s in</span>
      </div>
      <${Spark} values=${rates(`topic/${topic.name}`)} label="Messages that come to ${topic.name} each second" />
    </li>`;
};

export const Topics = () => {
  useLive();
  const pages = usePages('api/topics?limit=60', 'topics');
  const topics = pages.items?.map(newest);
  return html`
    <${Head} title="Topics" />
    ${pages.problem && html`<${Failure} problem=${pages.problem} again=${pages.reload} />`}
    ${!topics && !pages.problem && html`<${Loading} />`}
    ${topics?.length === 0 && html`<${Empty} title="No topics yet" command=${curl('POST', '/api/topics/orders/messages', { order: 1 })}>A topic is made by its first message: a claim, a sign-up, or one that you post.<//>`}
    ${topics?.length > 0 && html`<ul class="cards">${topics.map((one) => html`<${Card} key=${one.name} topic=${one} />`)}</ul>`}
    <${Pager} pages=${pages} />`;
};

const BREAKER = { closed: ['good', 'Breaker closed'], open: ['bad', 'Breaker open'], 'half-open': ['warn', 'Breaker half open'] };
const REASONS = { requested: 'by hand', gone: 'the origin answered 410', failing: 'nothing but failure for long' };

const fieldsOf = (isNew, mayPrivate, type, choose) => [
  ...(isNew ? [{ name: 'name', label: 'Name', required: true, max: 64, placeholder: 'origin', hint: 'a–z, 0–9, ., _ and -.', pointer: 'path:name' }] : []),
  ...(isNew ? [{ name: 'type', label: 'Leads to', kind: 'choice', choices: Object.entries(SINKS).filter(([, { isOfSpin }]) => !isOfSpin).map(([key, { name }]) => [key, name]), choose }] : []),
  { name: 'url', label: 'URL', input: 'url', required: true, placeholder: SINKS[type]?.url },
  type === 'http'
    ? { name: 'secret', label: 'Signing secret', placeholder: isNew ? 'made up, and shown once' : 'unchanged', hint: 'whsec_ and 24 to 64 bytes in base64.' }
    : { name: 'password', label: 'Password', placeholder: isNew ? '' : 'unchanged while it goes to the same place', hint: SINKS[type]?.password },
  ...(SINKS[type]?.fields || []),
  ...(type === 'http' || type === 'smtp' ? [] : BATCHES),
  { name: 'ratePerSecond', label: 'Messages a second at most', kind: 'number', min: 0.01, step: 'any' },
  { name: 'concurrency', label: 'Deliveries at once', kind: 'number', min: 1 },
  { name: 'timeout', label: 'Time-out, seconds', kind: 'number', min: 1 },
  { name: 'maxAttempts', label: 'Attempts of a message', kind: 'number', min: 1, pointer: '#/retry/maxAttempts', hint: 'Then it is a dead letter.' },
  { name: 'pauseAfter', label: 'Pauses itself after seconds of failure', kind: 'number', min: 0, max: 31536000, hint: 'Of nothing but failure. 432000, five days, unless you say otherwise; 0: never.' },
  { name: 'ordered', label: 'In order, for each ordering key', kind: 'flag' },
  ...(mayPrivate ? [{ name: 'allowPrivateAddresses', label: 'May lead to private addresses', kind: 'flag' }] : []),
];

/** What the form does not show, and stays as it is. */
const KEPT = ['type', 'filter', 'payload', 'batch', 'batchInterval', 'startFrom', 'allowPrivateAddresses'];

/** What `PUT` takes: everything that is to hold, since what is left out takes its default. */
const bodyOf = ({ name, maxAttempts, ...values }, before) => {
  const retry = { ...(before?.retry || {}) };
  if (maxAttempts !== null) retry.maxAttempts = maxAttempts;
  if (retry.scheduleSeconds) delete retry.maxAttempts;
  const body = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
  for (const name of KEPT) {
    if (before && before[name] != null && !(name in values)) body[name] = before[name];
  }
  return Object.keys(retry).length ? { ...body, retry } : body;
};

const Edit = ({ topic, subscription, close }) => {
  const { announce, may } = useSession();
  const [made, setMade] = useState(null);
  const [type, setType] = useState(subscription?.type || 'http');
  const submit = async (values) => {
    const name = subscription?.name || values.name;
    const answer = await call('PUT', `api/topics/${segment(topic)}/subscriptions/${segment(name)}`, bodyOf(values, subscription));
    announce(`The subscription ${name} was saved.`);
    if (!subscription && answer.secret && !values.secret) setMade(answer);
    else close(true);
  };
  if (made) {
    return html`
      <${Dialog} title="Signing secret of ${made.name}" close=${() => close(true)}>
        <div class="text"><p>The origin checks signatures with it. It is shown now and never again.</p><p class="secret"><code>${made.secret}</code> <${Copy} text=${made.secret} /></p></div>
        <footer><button type="button" class="primary" onClick=${() => close(true)}>Done</button></footer>
      <//>`;
  }
  const initial = subscription ? { ...subscription, secret: null, password: null, fallbackPassword: null, maxAttempts: subscription.retry.maxAttempts, pauseAfter: subscription.pauseAfter ?? 0 } : { ordered: false, type };
  const fields = fieldsOf(!subscription, may('admin'), type, setType).filter((field) => field.name !== 'maxAttempts' || !subscription?.retry.scheduleSeconds);
  return html`
    <${Dialog} title=${subscription ? `Change ${subscription.name}` : 'New subscription'} close=${() => close(false)}>
      <${Form} fields=${fields} initial=${initial} action="Save" submit=${submit} close=${() => close(false)} />
    <//>`;
};

const attempts = (retry) => retry.maxAttempts === 1 ? '1' :
  retry.scheduleSeconds ? `${retry.scheduleSeconds.length + 1}, after ${retry.scheduleSeconds.map(duration).join(', ')}` : `${retry.maxAttempts}, from ${duration(retry.initialSeconds)} to ${duration(retry.capSeconds)} apart`;

const REPLAY = [
  { name: 'fromSequence', label: 'From the sequence', kind: 'number', min: 1 },
  { name: 'fromTime', label: 'Or from the time', kind: 'time', hint: 'In your time zone. Give one of the two.' },
];

/** Messages of the past, delivered once more. */
const Replay = ({ subscription, path, close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    let body = given(values);
    const { count, rest } = await inRounds(async () => {
      const done = await call('POST', `${path}/replay`, body);
      body = { fromSequence: done.nextSequence };
      return { count: done.replayed, more: done.nextSequence !== null };
    });
    announce(`${number(count)} ${count === 1 ? 'message is' : 'messages are'} delivered again.${rest ? ` Go on from ${number(body.fromSequence)}.` : ''}`);
    close(true);
  };
  return html`
    <${Dialog} title="Replay to ${subscription.name}" close=${() => close(false)}>
      <${Form} fields=${REPLAY} action="Replay" submit=${submit} close=${() => close(false)} />
    <//>`;
};

/** When it pauses by itself, or has. */
const pauses = (one) => {
  if (one.paused) return one.pausedAt ? `paused since ${moment(one.pausedAt)}` : 'paused';
  if (one.pauseAfter === null) return 'never pauses by itself';
  if (one.failingSince) return `pauses by itself from ${moment(Date.parse(one.failingSince) + 1000 * one.pauseAfter)} on`;
  return `pauses by itself after ${duration(one.pauseAfter)} of failure`;
};

/** What came of a sample. */
const Trial = ({ told, close }) => html`
  <div class="notice ${told.delivered ? 'good' : 'bad'}" role="status">
    <p><strong>${told.delivered ? `The sample was taken: ${told.status}` : `The sample was not taken: ${told.error}`}</strong> in ${number(told.milliseconds)} ms.</p>
    ${told.answer && html`<p class="long"><code>${told.answer}</code></p>`}
    <button type="button" class="small" aria-label="Close what came of the sample" onClick=${close}>Close</button>
  </div>`;

const Subscription = ({ one, open, reload }) => {
  const [told, setTold] = useState(null);
  const path = `api/topics/${segment(one.topic)}/subscriptions/${segment(one.name)}`;
  const [tone, text] = BREAKER[one.breaker.state] || ['quiet', one.breaker.state];
  const act = (what) => async () => {
    await call('POST', `${path}/${what}`);
    reload();
  };
  const test = async () => {
    setTold(null);
    const trial = await call('POST', `${path}/test`);
    setTold(trial);
    return trial.delivered ? `${one.name} took a sample.` : `${one.name} did not take a sample.`;
  };
  return html`
    <li class="card wide">
      <header><h3>${one.name}</h3>
        <span class="badges">
          ${one.paused ? html`<${Badge} tone="warn">${REASONS[one.pauseReason] ? `Paused, ${REASONS[one.pauseReason]}` : 'Paused'}<//>` : html`<${Badge} tone="good">Running<//>`}
          <${Badge} tone=${tone}>${text}<//>
        </span>
      </header>
      <p class="long">${one.type !== 'http' && html`<strong>${SINKS[one.type]?.name || one.type}</strong> `}${one.url}</p>
      <div class="row">
        <span><strong>${number(one.lag)}</strong> to deliver</span>
        ${one.oldestWaiting && html`<span>the oldest since <strong><${Time} at=${one.oldestWaiting} /></strong></span>`}
        <span>finished up to <strong>${number(one.watermark)}</strong></span>
        <span>attempts: ${attempts(one.retry)}</span>
        <span>last hour: <strong>${number(one.attemptsLastHour)}</strong> sent, <strong>${number(one.failuresLastHour)}</strong> failed</span>
        <span>${pauses(one)}</span>
        ${one.failingSince && html`<span>failing since <strong><${Time} at=${one.failingSince} /></strong></span>`}
      </div>
      ${(one.lastError || one.breaker.why) && html`<p class="note"><strong>Last error:</strong> ${one.lastError || one.breaker.why}${one.breaker.until && html`; tried again <${Time} at=${one.breaker.until} />`}</p>`}
      <div class="actions">
        ${one.paused ? html`<${Act} label="Resume" act=${act('resume')} done="Deliveries to ${one.name} go on." />` : html`<${Act} label="Pause" act=${act('pause')} done="Deliveries to ${one.name} are paused." />`}
        ${one.breaker.state !== 'closed' && html`<${Act} label="Reset breaker" act=${act('reset-breaker')} done="The breaker of ${one.name} is closed." />`}
        ${one.lag > 0 && !one.paused && html`<${Act} label="Retry now" act=${act('retry-now')} done="What waits for ${one.name} is tried at once." />`}
        <${Act} label="Test" of=${one.name} act=${test} />
        <button type="button" aria-label="Replay to ${one.name}" onClick=${() => open('replay', one)}>Replay</button>
        ${one.source === 'api' ? html`
          <button type="button" aria-label="Change ${one.name}" onClick=${() => open('edit', one)}>Change</button>
          <button type="button" class="danger" aria-label="Delete ${one.name}" onClick=${() => open('delete', one)}>Delete</button>` : html`<span class="note">from tollgate.toml</span>`}
      </div>
      ${told && html`<${Trial} told=${told} close=${() => setTold(null)} />`}
      <${DeadLetters} path=${path} name=${one.name} />
    </li>`;
};

const textOf = (message) => {
  const text = message.data === undefined ? `${message.dataBase64 ?? ''}` : typeof message.data === 'string' ? message.data : JSON.stringify(message.data);
  return text.length > 160 ? `${text.slice(0, 160)} …` : text;
};

const Messages = ({ topic }) => {
  const [shown, setShown] = useState(null);
  const after = Math.max(0, topic.last - 10);
  const { data, problem } = useAnswer(`api/topics/${segment(topic.name)}/messages?limit=10&after=${after}`, 0, topic.last);
  if (problem) return html`<${Failure} problem=${problem} />`;
  if (!data?.messages.length) return html`<p class="note">None.</p>`;
  return html`
    ${shown && html`<${Deliveries} message=${shown} close=${() => setShown(null)} />`}
    <${Table} label="The last ten messages" columns=${[['Sequence', 'num'], ['Type'], ['Ordering key'], ['Data'], ['Time'], ['Deliveries']]}>
      ${[...data.messages].reverse().map((one) => html`
        <tr key=${one.id}><th scope="row" class="num">${number(one.sequence)}</th><td>${one.type}</td><td class="long">${one.key ?? '–'}</td><td class="long"><code>${textOf(one)}</code></td><td><${Time} at=${one.time} /></td>
          <td class="buttons">${one.request ? html`<button type="button" class="small" aria-label="Attempts of ${number(one.sequence)}" onClick=${() => setShown(one)}>Attempts</button>` : '–'}</td></tr>`)}
    <//>`;
};

export const Topic = ({ name }) => {
  useLive();
  const back = ['#/topics', 'Topics'];
  const path = `api/topics/${segment(name)}`;
  const answer = useAnswer(path, 5000);
  const subscriptions = useAnswer(`${path}/subscriptions`, AGAIN);
  const [dialog, setDialog] = useState(null);
  const close = (changed) => {
    setDialog(null);
    if (changed) subscriptions.reload();
  };
  const gone = (deleted) => {
    setDialog(null);
    if (deleted) location.hash = '#/topics';
  };
  // A topic that never had a message may be subscribed to.
  const unknown = answer.problem?.status === 404;
  if (answer.problem && !answer.data && !unknown) return html`<${Head} title=${name} back=${back} /><${Failure} problem=${answer.problem} again=${answer.reload} />`;
  if (!answer.data && !unknown) return html`<${Head} title=${name} back=${back} /><${Loading} />`;
  const topic = newest(answer.data || { name, first: 1, last: 0, depth: 0, subscriptions: [], groups: [] });
  const list = subscriptions.data?.subscriptions;
  return html`
    <${Head} title=${name} back=${back}><button type="button" onClick=${() => setDialog(['remove'])}>Delete topic</button> <button type="button" class="primary" onClick=${() => setDialog(['edit'])}>New subscription</button><//>
    ${dialog?.[0] === 'remove' && html`
      <${Confirm} title="Delete ${name}?" action="Delete topic" done="The topic ${name} was deleted." act=${() => call('DELETE', `${path}?force=true`)} close=${gone}>
        <p>Its messages go (${number(topic.depth)}), and its subscriptions and groups with what is not delivered and their dead letters. Sequences go on with the next message of this name.</p>
      <//>`}
    ${dialog?.[0] === 'edit' && html`<${Edit} topic=${name} subscription=${dialog[1]} close=${close} />`}
    ${dialog?.[0] === 'delete' && html`
      <${Confirm} title="Delete ${dialog[1].name}?" action="Delete" done="The subscription ${dialog[1].name} was deleted."
        act=${() => call('DELETE', `${path}/subscriptions/${segment(dialog[1].name)}`)} close=${close}>
        <p>What was not delivered to it is not delivered any more (${number(dialog[1].lag)}), and its dead letters go with it.</p>
      <//>`}
    ${dialog?.[0] === 'replay' && html`<${Replay} subscription=${dialog[1]} path="${path}/subscriptions/${segment(dialog[1].name)}" close=${close} />`}
    <dl class="tiles">
      <${Tile} name="Kept" value=${number(topic.depth)} note=${topic.depth ? `${number(topic.first)} to ${number(topic.last)}, ${size(topic.bytes)}` : 'nothing yet'} />
      <${Tile} name="To deliver" value=${number(lagOf([topic]))} note="by ${topic.subscriptions.length} ${topic.subscriptions.length === 1 ? 'subscription' : 'subscriptions'}" />
      ${topic.groups.length > 0 && html`<${Tile} name="To fetch" value=${number(toFetch([topic]))} note="by ${topic.groups.length} ${topic.groups.length === 1 ? 'group' : 'groups'}" />`}
      <${Tile} name="Coming in" value=${decimal(rate(`topic/${name}`))} unit="/ s" values=${rates(`topic/${name}`)} />
    </dl>
    <section aria-labelledby="subscriptions">
      <h2 id="subscriptions">Subscriptions</h2>
      ${subscriptions.problem && html`<${Failure} problem=${subscriptions.problem} />`}
      ${list?.length === 0 && html`<${Empty} title="Nobody is told" command=${curl('PUT', `/api/topics/${name}/subscriptions/origin`, { url: 'https://origin.example/hooks' })}>A subscription pushes each message to an origin, signed and retried. Make one here, or over the API:<//>`}
      ${list?.length > 0 && html`<ul class="stack">${list.map((one) => html`<${Subscription} key=${one.name} one=${one} open=${(kind, which) => setDialog([kind, which])} reload=${subscriptions.reload} />`)}</ul>`}
    </section>
    <${Groups} topic=${name} />
    <section aria-labelledby="messages"><h2 id="messages">Newest messages</h2><${Messages} topic=${topic} /></section>
    <section aria-labelledby="post"><h2 id="post">Post one</h2><${Command} text=${curl('POST', `/api/topics/${name}/messages`, { hello: 'world' })} /></section>`;
};
