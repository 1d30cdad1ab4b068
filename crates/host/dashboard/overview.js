// Everything at a glance.
import { lagOf, rate, rates, useLive } from './live.js';
import { Badge, Head, Loading, Stock, Tile, decimal, duration, html, number, useSession } from './ui.js';
import { State } from './campaigns.js';
import { standing } from './origins.js';
import { segment } from './api.js';

/** Campaigns in sight here. */
const MOST = 5;

/** Whether the origins are well, in a line. */
const OriginsLine = ({ origins }) => {
  const sick = origins.filter((one) => standing(one)[0] !== 'good');
  return html`<dt>Origins</dt><dd><a href="#/origins">${number(origins.length)}</a>, ${sick.length ? html`<${Badge} tone=${sick.some((one) => standing(one)[0] === 'bad') ? 'bad' : 'warn'}>${sick.map((one) => `${one.name}: ${standing(one)[1]}`).join(', ')}<//>` : 'all well'}</dd>`;
};

const Health = ({ gateway, origins }) => html`
  <section aria-labelledby="health">
    <h2 id="health">Gateway</h2>
    <dl class="facts">
      <dt>Health</dt><dd>${gateway.status === 'ready' ? html`<${Badge} tone="good">Ready<//>` : html`<${Badge} tone="bad">Not ready<//> ${gateway.status}`}</dd>
      <dt>Running for</dt><dd>${duration(gateway.uptime)}</dd>
      <dt>Version</dt><dd>${gateway.version}</dd>
      <dt>Store</dt><dd>${gateway.engine}</dd>
      ${gateway.limits ? html`<dt>Limits are shared over</dt><dd>${gateway.limits}</dd>` : null}
      <dt>Commits so far</dt><dd>${number(gateway.counters.commits)}${gateway.counters.groups ? html`, in ${number(gateway.counters.groups)} groups` : ''}</dd>
      <dt>Read cache</dt><dd>${gateway.cache === null ? '–' : `${decimal(gateway.cache * 100)} % hits`}</dd>
      <dt>Threads</dt><dd>${number(gateway.workers)} for the crowd, ${number(gateway.others)} for the rest</dd>
      ${origins?.length > 0 && html`<${OriginsLine} origins=${origins} />`}
      <dt>Dashboards open</dt><dd>${number(gateway.watchers)}</dd>
    </dl>
  </section>`;

const VERDICTS = { admitted: 'Admitted', alreadyClaimed: 'Claimed before', soldOut: 'Sold out', notOpen: 'Not open', limited: 'Too many requests' };

const Verdicts = ({ claims }) => html`
  <section aria-labelledby="verdicts">
    <h2 id="verdicts">Verdicts <small>since the start of the process</small></h2>
    <dl class="tiles small">${Object.entries(VERDICTS).map(([name, text]) => html`<${Tile} key=${name} name=${text} value=${number(claims[name])} />`)}</dl>
  </section>`;

export const Overview = () => {
  const { gateway, campaigns, topics, origins } = useLive();
  const { may } = useSession();
  if (!gateway) return html`<${Head} title="Overview" /><${Loading} />`;
  const open = campaigns?.campaigns.filter((one) => one.state === 'open') || [];
  const shown = [...(campaigns?.campaigns || [])].sort((a, b) => rate(`campaign/${b.id}`) - rate(`campaign/${a.id}`) || (a.state === 'open' ? -1 : 1)).slice(0, MOST);
  const counted = (name) => name in gateway.counters;
  return html`
    <${Head} title="Overview" />
    <dl class="tiles">
      ${counted('requests') && html`<${Tile} name="Requests" value=${decimal(rate('requests'))} unit="/ s" values=${rates('requests')} />`}
      ${may('campaigns') && html`<${Tile} name="Claims admitted" value=${decimal(rate('admitted'))} unit="/ s" values=${rates('admitted')} href="#/campaigns" />`}
      ${counted('refusals') && html`<${Tile} name="Refused by limits" value=${decimal(rate('refusals'))} unit="/ s" values=${rates('refusals')} href=${may('limits') ? '#/limits' : undefined} />`}
      <${Tile} name="Commits" value=${decimal(rate('commits'))} unit="/ s" values=${rates('commits')} />
      ${may('topics') && topics && html`<${Tile} name="To deliver" value=${number(lagOf(topics.topics))} values=${rates('lag')} href="#/topics" />`}
      <${Tile} name="Waiting for the disk" value=${number(gateway.levels.queued)} values=${rates('queued')} />
    </dl>
    ${may('campaigns') && campaigns && html`
      <section aria-labelledby="now">
        <h2 id="now">Campaigns <small>${number(open.length)} open</small></h2>
        ${shown.length === 0 && html`<p class="note">None yet. <a href="#/campaigns">Create one.</a></p>`}
        ${shown.length > 0 && html`<ul class="lines">${shown.map((one) => html`
          <li key=${one.id}>
            <a class="link" href="#/campaigns/${segment(one.id)}">${one.id}</a>
            <${State} state=${one.state} />
            <${Stock} campaign=${one} />
            <span class="num"><strong>${number(one.remaining)}</strong> left</span>
          </li>`)}</ul>`}
      </section>`}
    ${may('campaigns') && html`<${Verdicts} claims=${gateway.claims} />`}
    <${Health} gateway=${gateway} origins=${origins?.origins} />`;
};
