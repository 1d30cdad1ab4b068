// Short links: found, made, changed, removed.
import { useEffect, useState } from './hooks.js';
import { blob, call, query, segment } from './api.js';
import {
  Badge, Bars, Confirm, Copy, Dialog, Empty, Failure, Form, Head, Loading, Pager, Table, Time,
  changes, curl, given, html, moment, number, usePages, useSession,
} from './ui.js';

const TARGET = { name: 'url', label: 'Leads to', input: 'url', required: true, max: 2048, placeholder: 'https://example.com/page' };
const COMMON = [
  { name: 'title', label: 'Title' },
  { name: 'tags', label: 'Tags', kind: 'words', hint: 'Separated by commas; at most 10.' },
  { name: 'redirect', label: 'Status', kind: 'choice', choices: [['302', '302, the usual one'], ['301', '301, for good'], ['307', '307, keeps the method'], ['308', '308, for good, keeps the method']] },
  { name: 'maxVisits', label: 'Visits at most', kind: 'number', min: 1, hint: 'Exactly so many are led on, and no more.' },
  { name: 'validFrom', label: 'Valid from', kind: 'time' },
  { name: 'expiresAt', label: 'Ends', kind: 'time', hint: 'In your time zone.' },
  { name: 'fallbackUrl', label: 'Afterwards leads to', input: 'url' },
  { name: 'forwardQuery', label: 'Pass the query on', kind: 'flag' },
  { name: 'password', label: 'Password', input: 'password', max: 128, hint: 'Asked for before it leads anywhere. Only a hash is kept.' },
  { name: 'rules', label: 'Rules', kind: 'json', placeholder: '[{"when": {"os": "ios"}, "url": "https://example.com/ios"}]', hint: 'As JSON. The first that holds leads: device, os, language, country, after, before.' },
  { name: 'targets', label: 'Weighted targets', kind: 'json', placeholder: '[{"url": "https://example.com/a", "weight": 1}]', hint: 'As JSON. A client is led to the same one each time.' },
  { name: 'utm', label: 'UTM parameters', kind: 'json', placeholder: '{"source": "mail", "campaign": "spring"}', hint: 'As JSON. Added to wherever it leads: source, medium, campaign, term, content; {code} is the link’s code.' },
  { name: 'notifyBefore', label: 'Told before it ends, seconds', kind: 'number', min: 1, hint: 'By a message of the events’ topic.' },
  { name: 'events', label: 'Each visit is a message of the events’ topic', kind: 'flag' },
];
const CODE = { name: 'code', label: 'Code', max: 64, hint: '3 to 64 of A–Z, a–z, 0–9, _ and -.' };
const NEW = [TARGET, { ...CODE, placeholder: 'made up' }, ...COMMON];
const OPEN = { name: 'open', label: 'Asks for no password any more', kind: 'flag' };
const EDIT = [TARGET, { ...CODE, required: true, hint: 'With another code, the old one leads nowhere any more.' }, ...COMMON, { name: 'archived', label: 'Archived: leads nowhere', kind: 'flag' }];

/** Where a call about a link is: its host, if it has one of its own, is in the query. */
const of = (link, call = '', fields = {}) => `api/links/${segment(link.code)}${call}${query({ ...fields, domain: link.domain })}`;

const numbered = (values) => ({ ...values, redirect: Number(values.redirect) });

const Create = ({ close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    const made = await call('POST', 'api/links', given(numbered(values)));
    announce(`The link ${made.code} was created.`);
    close(true);
  };
  return html`<${Dialog} title="New link" close=${() => close(false)}><${Form} fields=${NEW} action="Create" submit=${submit} close=${() => close(false)} /><//>`;
};

const Edit = ({ link, close }) => {
  const { announce } = useSession();
  const submit = async (values) => {
    const { open, ...fields } = values;
    const changed = changes(numbered(fields), link);
    if (open) changed.password = null;
    // A patch keeps what it does not name.
    if (changed.utm && link.utm) changed.utm = { ...Object.fromEntries(Object.keys(link.utm).map((name) => [name, null])), ...changed.utm };
    if (Object.keys(changed).length) await call('PATCH', of(link), changed);
    announce(`The link ${link.code} was changed.`);
    close(true);
  };
  return html`<${Dialog} title="Change ${link.code}" close=${() => close(false)}><${Form} fields=${link.hasPassword ? [...EDIT, OPEN] : EDIT} initial=${link} action="Save" submit=${submit} close=${() => close(false)} /><//>`;
};

/** Square pixels of the picture that is saved as PNG: sharp on paper, 8 cm wide. */
const PIXELS = 1024;

const Code = ({ link, close }) => {
  const path = (fields) => of(link, '/qr', fields);
  const [files, setFiles] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    let urls = [];
    let open = true;
    const look = async () => {
      try {
        const [svg, png] = await Promise.all([blob(path({ format: 'svg' })), blob(path({ format: 'png', size: PIXELS }))]);
        // The policy of the page lets pictures in as data, and files out as blobs.
        const shown = `data:image/svg+xml,${encodeURIComponent(await svg.text())}`;
        urls = [svg, png].map((file) => URL.createObjectURL(file));
        if (open) setFiles([shown, ...urls]);
        else urls.forEach((url) => URL.revokeObjectURL(url));
      } catch (caught) {
        if (open) setProblem(caught);
      }
    };
    look();
    return () => {
      open = false;
      urls.forEach((url) => URL.revokeObjectURL(url));
    };
  }, [link.id]);
  return html`
    <${Dialog} title="QR code of ${link.code}" close=${close}>
      <div class="text qr">
        ${problem && html`<${Failure} problem=${problem} />`}
        ${!files && !problem && html`<${Loading} />`}
        ${files && html`<img src=${files[0]} alt="QR code that leads to ${link.shortUrl}" width="256" height="256" />`}
        <p><a href=${link.shortUrl} rel="noreferrer" target="_blank">${link.shortUrl}</a></p>
      </div>
      ${files && html`
        <footer>
          <a class="button" href=${files[1]} download="${link.code}.svg">Save as SVG</a>
          <a class="button" href=${files[2]} download="${link.code}.png">Save as PNG</a>
        </footer>`}
    <//>`;
};

/** What the visits of a link are shown by, and what a value that is not known is called. */
const DIMENSIONS = [['referrer', 'Page', 'Directly'], ['device', 'Device'], ['os', 'System'], ['browser', 'Browser'], ['country', 'Country'], ['language', 'Language']];
const INTERVALS = [['24h', 'A day'], ['7d', 'A week'], ['30d', '30 days'], ['90d', '90 days'], ['all', 'All']];
/** Rows that are shown of each. */
const SHOWN = 8;

const Values = ({ name, unknown, rows }) => html`
  <${Table} label="Visits by ${name.toLowerCase()}" columns=${[[name], ['Visits', 'num']]}>
    ${rows.slice(0, SHOWN).map((row) => html`<tr key=${row.value}><th scope="row">${row.value ?? unknown}</th><td class="num">${number(row.visits)}</td></tr>`)}
  <//>`;

/** Whether rows are of whole days. */
const areDays = (rows) => rows.length > 1 && Date.parse(rows[1].time) - Date.parse(rows[0].time) >= 86400e3;
/** A period in words. Days are those of UTC, by which they are counted, wherever somebody looks. */
const period = (row, rows) => (areDays(rows) ? `${row.time.slice(0, 10)} (UTC)` : moment(row.time));

/** Visits that are shown one by one. */
const NEWEST = 20;

const Newest = ({ visits }) => html`
  <${Table} label="Newest visits" columns=${[['Time'], ['Visitor'], ['From'], ['With']]}>
    ${visits.map((visit, index) => html`
      <tr key=${index}>
        <th scope="row"><${Time} at=${visit.time} /></th>
        <td>${visit.bot ? html`<${Badge} tone="quiet">Machine<//>` : visit.client}</td>
        <td class="long">${visit.referrer ?? 'Directly'}</td>
        <td class="long">${[visit.browser, visit.os, visit.country].filter(Boolean).join(', ') || visit.userAgent || 'Not known'}</td>
      </tr>`)}
  <//>`;

const Visits = ({ link, close }) => {
  const [interval, choose] = useState('7d');
  const [found, setFound] = useState(null);
  const [times, setTimes] = useState([]);
  const [newest, setNewest] = useState([]);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    let open = true;
    setFound(null);
    setProblem(null);
    const by = (groupBy) => call('GET', of(link, '/stats', { interval, groupBy }));
    Promise.all([by('time'), ...DIMENSIONS.map(([dimension]) => by(dimension))])
      .then(([time, ...all]) => open && (setTimes(time.rows), setFound(all)), (caught) => open && setProblem(caught));
    return () => { open = false; };
  }, [link.id, interval]);
  useEffect(() => {
    let open = true;
    call('GET', of(link, '/visits', { limit: NEWEST }))
      .then(({ visits }) => open && setNewest(visits), (caught) => open && setProblem(caught));
    return () => { open = false; };
  }, [link.id]);
  return html`
    <${Dialog} title="Visits of ${link.code}" close=${close}>
      <div class="text visits">
        <div class="field"><label for="interval">Of the last</label><select id="interval" value=${interval} onChange=${(event) => choose(event.target.value)}>
          ${INTERVALS.map(([value, label]) => html`<option value=${value}>${label}</option>`)}
        </select></div>
        ${problem && html`<${Failure} problem=${problem} />`}
        ${!found && !problem && html`<${Loading} />`}
        ${found && html`
          <p><strong>${number(found[0].visits)}</strong> visits of about <strong>${number(found[0].uniqueVisitors)}</strong> ${found[0].uniqueVisitors === 1 ? 'visitor' : 'visitors'}, and ${number(found[0].bots)} of machines, which do not count.</p>
          ${found[0].visits > 0 && html`<${Bars} label="Visits of ${link.code} by time" bars=${times.map((row) => ({ name: period(row, times), value: row.visits }))} />`}
          ${found[0].visits > 0 && DIMENSIONS.map(([, name, unknown], index) => html`<${Values} key=${name} name=${name} unknown=${unknown ?? 'Not known'} rows=${found[index].rows} />`)}`}
        ${newest.length > 0 && html`<${Newest} visits=${newest} />`}
      </div>
    <//>`;
};

const standing = (link) => {
  const now = Date.now();
  if (link.archived) return ['quiet', 'Archived'];
  if (link.expiresAt && Date.parse(link.expiresAt) <= now) return ['warn', 'Ended'];
  if (link.maxVisits && link.visits >= link.maxVisits) return ['warn', 'Used up'];
  if (link.validFrom && Date.parse(link.validFrom) > now) return ['quiet', 'Not yet'];
  return ['good', 'Live'];
};

const Row = ({ link, open }) => {
  const [tone, text] = standing(link);
  return html`
    <tr>
      <th scope="row"><a href=${link.shortUrl} rel="noreferrer" target="_blank">${link.code}</a>${link.domain && html`<span class="note">${link.domain}</span>`}${link.title && html`<span class="note">${link.title}</span>`}</th>
      <td class="long"><a href=${link.url} rel="noreferrer noopener" target="_blank">${link.url}</a>
        ${link.tags.length > 0 && html`<span class="tags">${link.tags.map((tag) => html`<span class="tag">${tag}</span>`)}</span>`}</td>
      <td><${Badge} tone=${tone}>${text}<//></td>
      <td class="num">${number(link.visits)}${link.maxVisits && html` <small>of ${number(link.maxVisits)}</small>`}</td>
      <td><${Time} at=${link.createdAt} /></td>
      <td class="buttons">
        <${Copy} text=${link.shortUrl} />
        <button type="button" class="small" aria-label="Visits of ${link.code}" onClick=${() => open('visits', link)}>Visits</button>
        <button type="button" class="small" aria-label="QR code of ${link.code}" onClick=${() => open('code', link)}>QR code</button>
        <button type="button" class="small" aria-label="Change ${link.code}" onClick=${() => open('edit', link)}>Change</button>
        <button type="button" class="small danger" aria-label="Delete ${link.code}" onClick=${() => open('delete', link)}>Delete</button>
      </td>
    </tr>`;
};

export const Links = () => {
  const [typed, setTyped] = useState('');
  const [search, setSearch] = useState('');
  const [sort, setSort] = useState('');
  useEffect(() => {
    const timer = setTimeout(() => setSearch(typed.trim()), 300);
    return () => clearTimeout(timer);
  }, [typed]);
  const pages = usePages(`api/links${query({ limit: 50, search, sort })}`, 'links');
  const [dialog, setDialog] = useState(null);
  const close = (changed) => {
    setDialog(null);
    if (changed) pages.reload();
  };
  const { items } = pages;
  return html`
    <${Head} title="Links"><button type="button" class="primary" onClick=${() => setDialog(['create'])}>New link</button><//>
    ${dialog?.[0] === 'create' && html`<${Create} close=${close} />`}
    ${dialog?.[0] === 'edit' && html`<${Edit} link=${dialog[1]} close=${close} />`}
    ${dialog?.[0] === 'code' && html`<${Code} link=${dialog[1]} close=${() => close(false)} />`}
    ${dialog?.[0] === 'visits' && html`<${Visits} link=${dialog[1]} close=${() => close(false)} />`}
    ${dialog?.[0] === 'delete' && html`
      <${Confirm} title="Delete ${dialog[1].code}?" action="Delete" done="The link ${dialog[1].code} was deleted."
        act=${() => call('DELETE', of(dialog[1]))} close=${close}>
        <p>Who follows it finds nothing any more, and its ${number(dialog[1].visits)} visits are forgotten.</p>
      <//>`}
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <div class="field"><label for="search">Find</label><input id="search" type="search" placeholder="Code, target, title or tag" value=${typed} onInput=${(event) => setTyped(event.target.value)} /></div>
      <div class="field"><label for="sort">Order</label><select id="sort" onChange=${(event) => setSort(event.target.value)}><option value="">As listed</option><option value="-visits">Most visited</option></select></div>
    </form>
    ${pages.problem && html`<${Failure} problem=${pages.problem} again=${pages.reload} />`}
    ${!items && !pages.problem && html`<${Loading} />`}
    ${items?.length === 0 && !search && pages.page === 1 && html`<${Empty} title="No links yet" command=${curl('POST', '/api/links', { url: 'https://example.com/', code: 'hello' })}>A short link redirects to its target and counts its visits. Create one here, or over the API:<//>`}
    ${items?.length === 0 && search && html`<${Empty} title="Nothing found">${pages.next ? 'Not on this page; there is more.' : `No link has “${search}” in its code, target, title or tags.`}<//>`}
    ${items?.length > 0 && html`
      <${Table} label="Links" columns=${[['Code'], ['Leads to'], ['State'], ['Visits', 'num'], ['Created'], ['Actions']]}>
        ${items.map((link) => html`<${Row} key=${link.id} link=${link} open=${(kind, one) => setDialog([kind, one])} />`)}
      <//>`}
    <${Pager} pages=${pages} />`;
};
