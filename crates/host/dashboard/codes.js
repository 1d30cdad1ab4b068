// The codes of a campaign: they are imported, each is a unit of its stock, and each goes to one claim.
import { useState } from './hooks.js';
import { call, segment } from './api.js';
import { Dialog, Form, html, number, useSession } from './ui.js';

/** Codes of one call. */
const MOST = 10000;
/** Duplicates that are named here. */
const NAMED = 20;

const FIELD = { name: 'codes', label: 'Codes', kind: 'lines', required: true, placeholder: 'SPRING-7F3K\nSPRING-9QX2', hint: 'One in each line. One that is there already is left out, so the same list may be sent again.' };

/** Adds codes to the pool. What does not fit into one call goes in several, in their order. */
export const ImportCodes = ({ campaign, close }) => {
  const { announce } = useSession();
  const [done, setDone] = useState(null);
  const submit = async ({ codes }) => {
    let [imported, quantity, duplicates] = [0, campaign.quantity, []];
    for (let at = 0; at === 0 || at < codes.length; at += MOST) {
      const answer = await call('POST', `api/campaigns/${segment(campaign.id)}/codes`, { codes: codes.slice(at, at + MOST) });
      imported += answer.imported;
      quantity = answer.quantity;
      duplicates = duplicates.concat(answer.duplicates);
    }
    announce(`${number(imported)} ${imported === 1 ? 'code was' : 'codes were'} imported.`);
    if (duplicates.length) setDone({ imported, quantity, duplicates });
    else close(true);
  };
  if (done) {
    const { imported, quantity, duplicates } = done;
    return html`
      <${Dialog} title="Codes of ${campaign.id}" close=${() => close(true)}>
        <div class="text">
          <p>${number(imported)} are new; the pool has ${number(quantity)} in all. ${number(duplicates.length)} were there already:</p>
          <p class="long"><code>${duplicates.slice(0, NAMED).join(', ')}</code>${duplicates.length > NAMED && ` and ${number(duplicates.length - NAMED)} more`}</p>
        </div>
        <footer><button type="button" class="primary" onClick=${() => close(true)}>Done</button></footer>
      <//>`;
  }
  return html`<${Dialog} title="Import codes for ${campaign.id}" close=${() => close(false)}><${Form} fields=${[FIELD]} action="Import" submit=${submit} close=${() => close(false)} /><//>`;
};
