// The OpenAPI document as a page, and its calls to be tried. No library, no markup out of text: everything is made node by node.

const METHODS = ["get", "post", "put", "patch", "delete"];
const MAX_DEPTH = 6;
const byId = (id) => document.getElementById(id);

/** An element with attributes (a function is a listener) and children (text, nodes, or nothing). */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat(9).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** The little Markdown that the document has: paragraphs, `code`, **bold**. */
function prose(text) {
  const inline = (line) =>
    line.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
      if (part.startsWith("`") && part.length > 2) return make("code", {}, part.slice(1, -1));
      if (part.startsWith("**") && part.length > 4) return make("strong", {}, part.slice(2, -2));
      return part;
    });
  return (text ?? "").split(/\n\s*\n/).map((paragraph) => make("p", {}, inline(paragraph.replaceAll("\n", " "))));
}

const json = (value) => JSON.stringify(value, null, 2);
const code = (text) => make("pre", { tabindex: "0" }, make("code", {}, text));

function reader(api) {
  const resolve = (value) => {
    if (!value?.$ref) return value;
    const path = value.$ref.slice(2).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    return path.reduce((there, part) => there?.[part], api);
  };

  /** A schema in a few words: its type and its bounds. */
  function words(schema) {
    if (schema === true || schema === undefined) return "anything";
    const name = schema.$ref?.split("/").pop();
    const known = resolve(schema);
    const variants = known.oneOf ?? known.anyOf;
    const said = [];
    if (known.const !== undefined) return JSON.stringify(known.const);
    if (known.enum) return known.enum.map((one) => JSON.stringify(one)).join(" or ");
    if (variants?.every((one) => resolve(one).const !== undefined || one.type === "null" || one.$ref)) {
      return variants.map(words).join(" or ");
    }
    if (name && known.type === "object") return name;
    const type = [known.type ?? "anything"].flat().join(" or ");
    said.push(known.items ? `${type} of ${words(known.items)}` : type);
    if (known.format) said.push(known.format);
    const range = (least, most, unit) => {
      if (least !== undefined && most !== undefined) said.push(`${least} to ${most}${unit}`);
      else if (least) said.push(`at least ${least}${unit}`);
      else if (most !== undefined) said.push(`at most ${most}${unit}`);
    };
    range(known.minimum, known.maximum, "");
    range(known.minLength, known.maxLength, " characters");
    range(known.minItems, known.maxItems, " items");
    if (known.pattern) said.push(`matches ${known.pattern}`);
    if (known.default !== undefined) said.push(`default ${JSON.stringify(known.default)}`);
    return said.join(", ");
  }

  /** The members of an object, and of those in it. */
  function members(schema, depth = 0) {
    const known = resolve(schema);
    if (!known || depth > MAX_DEPTH) return [];
    const variants = (known.oneOf ?? known.anyOf ?? []).filter((one) => resolve(one).properties);
    if (variants.length > 0) {
      return variants.map((one) => [make("h4", {}, one.$ref ? one.$ref.split("/").pop() : "Either, or"), members(one, depth + 1)]);
    }
    if (known.type === "array" || known.items) return members(known.items, depth + 1);
    if (!known.properties) return [];
    const rows = Object.entries(known.properties).map(([name, member]) => {
      const described = resolve(member);
      const inner = members(member, depth + 1);
      return make("tr", {},
        make("th", { scope: "row" }, make("code", {}, name), known.required?.includes(name) ? "" : make("span", { class: "says" }, " optional")),
        make("td", {},
          make("span", { class: "says" }, words(member)),
          prose(member.description ?? described?.description),
          inner.flat(9).length > 0 && make("details", {}, make("summary", {}, `Members of ${name}`), inner)));
    });
    return [make("div", { class: "wide" }, make("table", {}, make("tbody", {}, rows)))];
  }

  return { resolve, words, members };
}

function example(media) {
  if (media?.example !== undefined) return media.example;
  return Object.values(media?.examples ?? {})[0]?.value;
}

function answers(operation, read) {
  return Object.entries(operation.responses).map(([status, response]) => {
    const known = read.resolve(response);
    const parts = Object.entries(known.content ?? {}).map(([type, media]) => {
      const shown = media.examples ? Object.values(media.examples).map((one) => one.value) : [example(media)];
      return [
        make("p", {}, make("code", {}, type)),
        shown.filter((one) => one !== undefined).map((one) => code(json(one))),
        read.members(media.schema).length > 0 && make("details", {}, make("summary", {}, "Members"), read.members(media.schema)),
      ];
    });
    const headers = Object.entries(known.headers ?? {}).map(([name, header]) => {
      const described = read.resolve(header);
      return make("tr", {}, make("th", { scope: "row" }, make("code", {}, name)), make("td", {}, prose(described.description)));
    });
    return make("details", {},
      make("summary", {}, make("span", { class: status < "400" ? "good" : "bad" }, status), ` ${known.description}`),
      parts,
      headers.length > 0 && make("details", {}, make("summary", {}, "Headers"), make("table", {}, make("tbody", {}, headers))));
  });
}

/** What of the caller belongs to a call, by its access. */
function credentials(operation) {
  const [key, client, user] = ["key", "client", "user"].map((id) => byId(id).value.trim());
  const wanted = (operation.security ?? []).flatMap((one) => Object.keys(one));
  const headers = {};
  const bearer = wanted.includes("apiKey") || wanted.includes("manageToken");
  if (key && bearer) headers.authorization = `Bearer ${key}`;
  if (client) headers["x-client-id"] = client;
  if (user && wanted.includes("userId")) headers["x-user-id"] = user;
  return headers;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl(method, url, headers, body) {
  const shown = Object.entries(headers).map(([name, value]) => {
    const hidden = name === "authorization" ? "Bearer $TOLLGATE_KEY" : value;
    return name === "authorization" ? `-H "${name}: ${hidden}"` : `-H ${quoted(`${name}: ${hidden}`)}`;
  });
  return ["curl -i", method === "GET" ? "" : `-X ${method}`, ...shown, body === undefined ? "" : `-d ${quoted(body)}`, quoted(url)]
    .filter(Boolean).join(" ");
}

function tryIt(path, method, operation, parameters, read) {
  const inputs = parameters.filter((one) => !["x-client-id", "x-request-id"].includes(one.name)).map((one) => {
    const input = make("input", { class: "code", type: "text", autocomplete: "off", spellcheck: "false", required: one.in === "path",
      placeholder: one.schema?.default ?? one.example ?? "" });
    return { one, input, label: make("label", {}, make("code", {}, one.name), ` (${one.in})`, input) };
  });
  const content = operation.requestBody?.content ?? {};
  const [type, media] = Object.entries(content)[0] ?? [];
  const form = type === "application/x-www-form-urlencoded";
  const first = example(media);
  const text = first === undefined ? "" : form ? new URLSearchParams(first).toString() : json(first);
  const body = type && make("textarea", { class: "code", spellcheck: "false" });
  if (body) body.value = text;
  const answer = make("div", { role: "status" });

  function request() {
    let url = path;
    const query = new URLSearchParams();
    const headers = credentials(operation);
    for (const { one, input } of inputs) {
      const value = input.value;
      if (one.in === "path") url = url.replace(`{${one.name}}`, encodeURIComponent(value).replaceAll("%2B", "+"));
      else if (value !== "" && one.in === "query") query.set(one.name, value);
      else if (value !== "") headers[one.name] = value;
    }
    if (String(query)) url += `?${query}`;
    const sent = body?.value ? body.value : undefined;
    if (sent !== undefined) headers["content-type"] = type;
    return { url, headers, sent };
  }

  async function send(event) {
    event.preventDefault();
    const { url, headers, sent } = request();
    const begun = performance.now();
    answer.replaceChildren("Sending …");
    try {
      const response = await fetch(url, { method, headers, body: sent, redirect: "manual", credentials: "omit", cache: "no-store" });
      const took = Math.round(performance.now() - begun);
      if (response.type === "opaqueredirect") {
        answer.replaceChildren(make("p", {}, make("span", { class: "good" }, "A redirect"), ` in ${took} ms. Browsers do not show scripts where it leads; curl does.`));
        return;
      }
      const got = await response.text();
      let shown = got;
      try { shown = json(JSON.parse(got)); } catch { /* not JSON: as it is */ }
      const listed = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      answer.replaceChildren(
        make("p", {}, make("span", { class: response.ok ? "good" : "bad" }, `${response.status} ${response.statusText}`), ` in ${took} ms`),
        code(listed), shown ? code(shown) : make("p", { class: "says" }, "No body."));
    } catch (error) {
      answer.replaceChildren(make("p", { class: "bad" }, `No answer: ${error.message}`));
    }
  }

  function show() {
    const { url, headers, sent } = request();
    answer.replaceChildren(code(curl(method, new URL(url, location.href).href, headers, sent)));
  }

  const submit = make("button", { type: "submit" }, "Send");
  return make("form", { submit: send, autocomplete: "off" },
    make("div", { class: "fields" }, inputs.map((one) => one.label)),
    body && make("label", {}, `Body (${type})`, body),
    make("p", {}, submit, " ", make("button", { type: "button", class: "plain", click: show }, "As curl")),
    answer);
}

function call(path, method, operation, read) {
  const parameters = (operation.parameters ?? []).map(read.resolve);
  const upper = method.toUpperCase();
  const content = Object.entries(operation.requestBody?.content ?? {});
  const details = make("details", { id: operation.operationId },
    make("summary", {},
      make("h3", {}, make("span", { class: `method ${upper}` }, upper), " ", make("code", {}, path), ` ${operation.summary} `),
      make("span", { class: "access" }, operation["x-tollgate-access"])));
  // Filled when it is opened for the first time: most never are.
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    details.append(
      ...prose(operation.description),
      make("h4", {}, "Parameters"),
      make("div", { class: "wide" }, make("table", {}, make("tbody", {}, parameters.map((one) => make("tr", {},
        make("th", { scope: "row" }, make("code", {}, one.name), make("span", { class: "says" }, ` ${one.in}${one.required ? "" : ", optional"}`)),
        make("td", {}, make("span", { class: "says" }, read.words(one.schema)), prose(one.description))))))),
      ...content.slice(0, 1).flatMap(([type, media]) => [
        make("h4", {}, `Body: ${content.map(([name]) => name).join(", ")}${operation.requestBody.required ? "" : " (optional)"}`),
        ...(type.includes("json") ? read.members(media.schema) : []),
      ].flat(9)),
      make("h4", {}, "Answers"), ...answers(operation, read),
      make("h4", {}, "Try it"), tryIt(path, upper, operation, parameters, read));
  });
  const text = [upper, path, operation.summary, operation.operationId, operation.description].join(" ").toLowerCase();
  return { details, text };
}

function render(api) {
  const read = reader(api);
  byId("version").textContent = `Version ${api.info.version}.`;
  byId("about").querySelector("div").append(...prose(api.info.description));
  const sections = api.tags.map((tag) => {
    const calls = Object.entries(api.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]?.tags.includes(tag.name)).map((method) => call(path, method, item[method], read)));
    const section = make("section", { "aria-labelledby": `tag-${tag.name}` },
      make("h2", { id: `tag-${tag.name}` }, tag.name), prose(tag.description), calls.map((one) => one.details));
    return { section, calls };
  });
  byId("calls").replaceChildren(...sections.map((one) => one.section));
  const search = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { section, calls } of sections) {
      for (const one of calls) {
        one.details.hidden = !words.every((word) => one.text.includes(word));
        count += one.details.hidden ? 0 : 1;
      }
      section.hidden = calls.every((one) => one.details.hidden);
    }
    byId("found").textContent = words.length > 0 ? `${count} calls` : "";
  };
  byId("search").addEventListener("input", search);
  const goTo = () => {
    const named = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    if (named instanceof HTMLDetailsElement) {
      named.open = true;
      named.scrollIntoView();
    }
  };
  addEventListener("hashchange", goTo);
  goTo();
}

for (const id of ["who", "find"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`it was answered with ${response.status}`);
  render(await response.json());
} catch (error) {
  byId("calls").replaceChildren(make("p", { role: "alert", class: "bad" }, `openapi.json could not be read: ${error.message}`));
}
