// The live numbers: one stream of events for the whole page, open only while somebody looks at it.
import { useEffect, useState } from './hooks.js';
import { session } from './api.js';

/** How many samples of a series are kept. */
const SAMPLES = 180;
/** Milliseconds after which a number that was not told again stood still. */
const STILL = 900;
const RETRY = [1000, 2000, 5000, 10000];

/** What was told last. All but `gateway` are null until they were told, and stay so where the scope does not reach. */
export const live = { connected: false, failures: 0, gateway: null, campaigns: null, topics: null, limits: null, origins: null };

const series = new Map();
const watchers = new Set();
let source = null;
let timer = 0;
let ended = () => {};
let drawing = false;

const changed = () => {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const watcher of watchers) watcher();
  });
};

/** Adds a counter's value: the series gets how much it rose each second. */
const sample = (name, time, value) => {
  const one = series.get(name) || series.set(name, { time: 0, value: 0, rates: [] }).get(name);
  if (one.time && time > one.time) {
    one.rates.push(Math.max(0, ((value - one.value) * 1000) / (time - one.time)));
    if (one.rates.length > SAMPLES) one.rates.shift();
  }
  one.time = time;
  one.value = value;
};

/** Adds a level: also one that a view has asked for by itself. */
export const level = (name, value) => {
  const one = series.get(name) || series.set(name, { rates: [] }).get(name);
  one.rates.push(value);
  if (one.rates.length > SAMPLES) one.rates.shift();
};

/** The last rates of a counter, or the last levels. */
export const rates = (name) => series.get(name)?.rates || [];
/** The newest of them. */
export const rate = (name) => rates(name).at(-1) || 0;

const told = {
  limits(news) {
    live.limits = news;
  },
  origins(news) {
    live.origins = news;
    for (const origin of news.origins) sample(`origin/${origin.name}`, news.time, Object.values(origin.outcomes).reduce((sum, count) => sum + count, 0));
  },
  gateway(news) {
    live.gateway = news;
    for (const [name, value] of Object.entries(news.counters || {})) sample(name, news.time, value);
    for (const [name, value] of Object.entries(news.levels || {})) level(name, value);
    // What has not changed is not told again: it stood still.
    for (const [name, one] of series) {
      if (/^(campaign\/|topic\/|origin\/|admitted$)/.test(name) && news.time - one.time > STILL) sample(name, news.time, one.value);
    }
  },
  campaigns(news) {
    live.campaigns = news;
    let admitted = 0;
    for (const campaign of news.campaigns) {
      sample(`campaign/${campaign.id}`, news.time, campaign.admitted);
      admitted += campaign.admitted;
    }
    sample('admitted', news.time, admitted);
  },
  topics(news) {
    live.topics = news;
    for (const topic of news.topics) sample(`topic/${topic.name}`, news.time, topic.last);
    level('lag', lagOf(news.topics));
  },
};

/** Messages that the subscriptions of these topics have not finished. */
export const lagOf = (topics) => topics.flatMap((topic) => topic.subscriptions).reduce((sum, one) => sum + one.lag, 0);

/** Messages that the consumer groups of these topics have not finished. */
export const toFetch = (topics) => topics.flatMap((topic) => topic.groups).reduce((sum, one) => sum + one.lag, 0);

const close = () => {
  clearTimeout(timer);
  source?.close();
  source = null;
};

const open = () => {
  close();
  if (document.hidden) return;
  source = new EventSource('admin/events');
  source.onopen = () => {
    Object.assign(live, { connected: true, failures: 0 });
    changed();
  };
  source.onerror = async () => {
    // The browser would try again by itself, but not after a refusal; and it does not tell which one it was.
    close();
    live.connected = false;
    changed();
    timer = setTimeout(open, RETRY[Math.min(live.failures++, RETRY.length - 1)]);
    const who = await session().catch(() => undefined);
    if (who === null) {
      close();
      ended();
    }
  };
  for (const [name, take] of Object.entries(told)) {
    source.addEventListener(name, (event) => {
      take(JSON.parse(event.data));
      changed();
    });
  }
};

const look = () => (document.hidden ? close() : open());

/** Begins to watch; `whenEnded`: the session is over. */
export const start = (whenEnded) => {
  ended = whenEnded;
  document.addEventListener('visibilitychange', look);
  open();
};

/** Watches no more, and forgets. */
export const stop = () => {
  document.removeEventListener('visibilitychange', look);
  close();
  series.clear();
  Object.assign(live, { connected: false, failures: 0, gateway: null, campaigns: null, topics: null, limits: null, origins: null });
};

/** Draws the component again whenever something was told. */
export const useLive = () => {
  const [, draw] = useState(0);
  useEffect(() => {
    const watcher = () => draw((n) => n + 1);
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }, []);
  return live;
};
