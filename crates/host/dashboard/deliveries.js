// Where the deliveries of one message stand, with the attempts that were made.
import { segment } from './api.js';
import { AGAIN } from './letters.js';
import { Badge, Dialog, Failure, Loading, Table, Time, html, number, useAnswer } from './ui.js';

const STATES = {
  pending: ['quiet', 'Not attempted yet'],
  delivering: ['warn', 'To be attempted again'],
  delivered: ['good', 'Delivered'],
  dead: ['bad', 'Given up'],
  filtered: ['quiet', 'Not for it'],
};

const Delivery = ({ one }) => {
  const [tone, text] = STATES[one.state] || ['quiet', one.state];
  return html`
    <div class="subhead"><h3>${one.subscription}</h3><${Badge} tone=${tone}>${text}<//></div>
    ${one.state === 'delivering' && one.nextAttemptAt && html`<p class="note">Attempted again <${Time} at=${one.nextAttemptAt} exact />.</p>`}
    ${one.attemptLog.length === 0 && html`<p class="note">No attempt is kept.</p>`}
    ${one.attemptLog.length > 0 && html`
      <${Table} label="Attempts at ${one.subscription}" columns=${[['No', 'num'], ['Began'], ['Took', 'num'], ['Answer']]}>
        ${[...one.attemptLog].reverse().map((attempt) => html`
          <tr key=${attempt.time}>
            <th scope="row" class="num">${number(attempt.number)}</th>
            <td><${Time} at=${attempt.time} exact /></td>
            <td class="num">${number(attempt.milliseconds)} ms</td>
            <td class="long"><strong>${attempt.status ?? 'none'}</strong>${attempt.error && html`<span class="note">${attempt.error}</span>`}${attempt.answer && html`<code>${attempt.answer}</code>`}</td>
          </tr>`)}
      <//>`}`;
};

/** The deliveries of a message that was a request. */
export const Deliveries = ({ message, close }) => {
  const { data, problem } = useAnswer(`api/messages/${segment(message.id)}`, AGAIN);
  return html`
    <${Dialog} title="Deliveries of ${number(message.sequence)}" close=${close}>
      <div class="text">
        <p class="note long">${message.id}</p>
        ${problem && html`<${Failure} problem=${problem} />`}
        ${!data && !problem && html`<${Loading} />`}
        ${data?.deliveries.length === 0 && html`<p>The topic has no subscription: nobody is told.</p>`}
        ${data?.deliveries.map((one) => html`<${Delivery} key=${one.subscription} one=${one} />`)}
      </div>
    <//>`;
};
