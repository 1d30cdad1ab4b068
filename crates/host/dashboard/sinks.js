// Where subscriptions lead to: what a form asks for, by type.

/** By type: its name, what a URL looks like, what its password is, and the fields that only it has. One of Spin is shown and not made here. */
export const SINKS = {
  http: {
    name: 'Origin (HTTP)', url: 'https://origin.example/hooks', fields: [],
  },
  'key-value': {
    name: 'Key-value store (Spin)', url: 'key-value://default', isOfSpin: true,
    fields: [{ name: 'key', label: 'Key', max: 256, placeholder: '{topic}/{id}', hint: 'Text, and fields of a message in braces.' }],
  },
  kafka: {
    name: 'Kafka', url: 'kafka+ssl://user@kafka.example:9093/topic', password: 'Of the user of the URL.',
    fields: [
      { name: 'mechanism', label: 'How the user logs in', kind: 'choice', choices: [['', 'SCRAM-SHA-512, unless the URL has no user'], ...['SCRAM-SHA-512', 'SCRAM-SHA-256', 'PLAIN'].map((one) => [one, one])], hint: 'PLAIN sends the password as it is.' },
    ],
  },
  nats: {
    name: 'NATS JetStream', url: 'tls://user@nats.example:4222', password: 'Of the user of the URL; without one, a token.',
    fields: [{ name: 'subject', label: 'Subject', max: 256, hint: 'A stream has to take it. The topic’s name, unless you say otherwise.' }],
  },
  postgres: {
    name: 'Postgres', url: 'postgres://user@db.example/database', password: 'Of the user of the URL.',
    fields: [
      { name: 'statement', label: 'Statement', kind: 'long', required: true, placeholder: 'INSERT INTO sign_ups (id, email) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING' },
      { name: 'parameters', label: 'Parameters', kind: 'words', required: true, placeholder: 'id, data.email', hint: 'Fields of a message, for $1, $2 and so on.' },
    ],
  },
  redis: {
    name: 'Redis stream', url: 'rediss://user@cache.example:6379/0', password: 'Of the user of the URL, or of all.',
    fields: [
      { name: 'stream', label: 'Stream', max: 256, hint: 'The topic’s name, unless you say otherwise.' },
      { name: 'maxLength', label: 'Entries that the stream keeps', kind: 'number', min: 1, hint: 'About so many; without it, all.' },
      { name: 'deduplicate', label: 'Seconds for which an entry is known', kind: 'number', min: 0, max: 604800, hint: 'So that it is not added again. 0: not at all.' },
    ],
  },
  s3: {
    name: 'Object storage (S3)', url: 'https://accesskey@s3.example/bucket/prefix', password: 'The secret of the access key in the URL.',
    fields: [{ name: 'region', label: 'Region', max: 64, placeholder: 'us-east-1' }],
  },
  smtp: {
    name: 'Mail (SMTP)', url: 'smtps://user@mail.example', password: 'Of the user of the URL.',
    fields: [
      { name: 'fallbackUrl', label: 'Second server', input: 'url', placeholder: 'smtp://mail2.example:587' },
      { name: 'fallbackPassword', label: 'Its password', placeholder: 'unchanged while its URL is' },
      { name: 'from', label: 'From', required: true, placeholder: 'Shop <shop@example.com>' },
      { name: 'to', label: 'To', required: true, placeholder: '{{ data.email }}' },
      { name: 'subject', label: 'Subject', required: true, placeholder: 'Welcome, {{ data.name }}' },
      { name: 'text', label: 'Text', kind: 'long', required: true, placeholder: 'Hello {{ data.name }},' },
      { name: 'html', label: 'Text as HTML', kind: 'long' },
    ],
  },
};

/** Of types that take several messages at once. */
export const BATCHES = [
  { name: 'batch', label: 'Messages of a batch', kind: 'number', min: 1, max: 100, hint: 'Without it, each goes by itself.' },
  { name: 'batchInterval', label: 'Seconds that a batch waits for more', kind: 'number', min: 0, max: 60, step: 'any' },
];
