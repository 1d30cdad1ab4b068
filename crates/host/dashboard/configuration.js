// The configuration in force, as the gateway tells it: without secrets.
import { Copy, Failure, Head, Loading, html, useAnswer } from './ui.js';

export const Configuration = () => {
  const { data, problem, reload } = useAnswer('admin/configuration');
  return html`
    <${Head} title="Configuration">${data && html`<${Copy} text=${data} />`}<//>
    <p class="lead">This is in force, defaults included. Secrets are masked. To change it, edit <code>tollgate.toml</code>, and ask <code>tollgate check</code>: the gateway reads it again, and its log says what changed and what takes a restart.</p>
    ${problem && html`<${Failure} problem=${problem} again=${reload} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data && html`<pre class="sheet" tabindex="0" role="region" aria-label="Configuration"><code>${data}</code></pre>`}`;
};
