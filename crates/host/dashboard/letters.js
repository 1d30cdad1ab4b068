// Dead letters: messages that an origin did not take, or that a group's consumers did not finish.
import { useState } from './hooks.js';
import { call } from './api.js';
import { Act, Confirm, Pager, Table, Time, html, number, useAnswer, usePages } from './ui.js';

/** How often what is in sight of a topic is asked for, milliseconds. */
export const AGAIN = 2000;
/** Calls that one press makes at most, where each does a bounded part. */
const ROUNDS = 20;

/** Repeats a call that answers `{ count, more }` until there is no more, within bounds; `rest`: there is more still. */
export const inRounds = async (once) => {
  let [count, more] = [0, true];
  for (let round = 0; more && round < ROUNDS; round++) {
    const done = await once();
    count += done.count;
    more = done.more;
  }
  return { count, rest: more };
};

/** Those of a subscription, or of a group: whose path it is. */
export const DeadLetters = ({ path, name, again = 'delivered' }) => {
  const pages = usePages(`${path}/dead-letters?limit=20`, 'deadLetters');
  const answer = useAnswer(`${path}/dead-letters?limit=1`, AGAIN);
  const [seen, setSeen] = useState('');
  const [asks, setAsks] = useState(false);
  const [newest] = answer.data?.deadLetters || [];
  const first = newest ? `${newest.id} ${newest.lastAttemptAt}` : '';
  // The list in sight is asked for again when its beginning has changed, or has died once more.
  if (answer.data && first !== seen) {
    setSeen(first);
    pages.reload();
  }
  const redrive = (body) => async () => {
    const { count } = await inRounds(async () => {
      const { redriven, more } = await call('POST', `${path}/dead-letters/redrive`, body);
      return { count: redriven, more };
    });
    pages.reload();
    return `${number(count)} ${count === 1 ? 'message is' : 'messages are'} ${again} again.`;
  };
  const remove = () =>
    inRounds(async () => {
      const { removed, more } = await call('DELETE', `${path}/dead-letters`, { all: true });
      return { count: removed, more };
    });
  const items = pages.items || [];
  if (!items.length) return html`<p class="note">No dead letters.</p>`;
  return html`
    <div class="letters">
      <div class="subhead"><h4>Dead letters of ${name}</h4>
        <div class="actions">
          <${Act} label="Redrive all" kind="primary" act=${redrive({ all: true })} />
          <button type="button" class="danger" aria-label="Delete all dead letters of ${name}" onClick=${() => setAsks(true)}>Delete all</button>
        </div>
      </div>
      ${asks && html`
        <${Confirm} title="Delete the dead letters of ${name}?" action="Delete" done="The dead letters of ${name} are gone." act=${remove}
          close=${(changed) => (setAsks(false), changed && pages.reload())}>
          <p>${name} never gets these messages. The topic keeps them as long as any.</p>
        <//>`}
      <${Table} label="Dead letters of ${name}" columns=${[['Message'], ['Last error'], ['Attempts', 'num'], ['Given up'], ['Actions']]}>
        ${items.map((letter) => html`
          <tr key=${letter.id}>
            <th scope="row"><span class="num">${number(letter.sequence)}</span><span class="note">${letter.message?.type || letter.id}</span></th>
            <td class="long">${letter.lastError}</td>
            <td class="num">${number(letter.attempts)}</td>
            <td><${Time} at=${letter.lastAttemptAt} /></td>
            <td class="buttons"><${Act} kind="small" label="Redrive ${number(letter.sequence)}" act=${redrive({ ids: [letter.id] })} /></td>
          </tr>`)}
      <//>
      <${Pager} pages=${pages} />
    </div>`;
};
