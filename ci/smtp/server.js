// A real SMTP server for the tests: takes mail over plain TCP, STARTTLS or TLS, prints what it
// took, and misbehaves on request. It keeps nothing, relays nothing, and listens on loopback.
//
//   node server.js --tls none|starttls|implicit [--key FILE --cert FILE] [--login USER:PASSWORD]
//                  [--temporary N] [--drop N] [--delay MS] [--port N] [--grey MS]
//                  [--busy-every N] [--cut-data N] [--banner MS] [--recipient MS]
//
// --temporary N  answers 451 to the first N messages
// --drop N       cuts the connection after the first N messages' data, before the answer
// --delay MS     waits that long before it answers a message
// --port N       listens there; default: wherever there is room
// --grey MS      answers 450 to a recipient until so long after its first try
// --busy-every N greets each N-th connection with 421 and closes it
// --cut-data N   cuts the connection while the text of the first N messages arrives
// --banner MS    greets the first connection only after that time
// --recipient MS waits that long before it accepts a recipient
//
// A recipient that starts with `reject` is answered 550, one that starts with `later` 450.
// After a message to one that starts with `bye` was answered 250, the connection is closed.
//
// Standard output is one JSON object a line: {"event":"listening","port":N} first, then
// {"event":"data",...} when a message begins, {"event":"mail",...} for each whole one and {"event":"recipient_refused",...} for each refused
// recipient. It ends when its standard input closes, so that it never outlives the test.
// `smtp-server` is looked up in the folder that NODE_PATH names.

'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { SMTPServer } = require('smtp-server');

const { values: options } = parseArgs({
  options: {
    tls: { type: 'string', default: 'none' },
    key: { type: 'string' },
    cert: { type: 'string' },
    login: { type: 'string' },
    temporary: { type: 'string', default: '0' },
    drop: { type: 'string', default: '0' },
    delay: { type: 'string', default: '0' },
    port: { type: 'string', default: '0' },
    grey: { type: 'string', default: '0' },
    'busy-every': { type: 'string', default: '0' },
    'cut-data': { type: 'string', default: '0' },
    banner: { type: 'string', default: '0' },
    recipient: { type: 'string', default: '0' },
  },
});

let temporaryLeft = Number(options.temporary);
let dropsLeft = Number(options.drop);
const delayMs = Number(options.delay);
const greyMs = Number(options.grey);
const busyEvery = Number(options['busy-every']);
let cutsLeft = Number(options['cut-data']);
const bannerMs = Number(options.banner);
const recipientMs = Number(options.recipient);
let connections = 0;
const firstTries = new Map();

function print(record) {
  process.stdout.write(`${JSON.stringify(record)}\n`);
}

function refusal(code, message) {
  return Object.assign(new Error(message), { responseCode: code });
}

function socketOf(session) {
  for (const connection of server.connections) {
    if (connection.session === session) return connection._socket;
  }
  return null;
}

function isGrey(address) {
  const now = Date.now();
  if (!firstTries.has(address)) firstTries.set(address, now);
  return now - firstTries.get(address) < greyMs;
}

const server = new SMTPServer({
  banner: 'doorward test server',
  logger: false,
  disableReverseLookup: true,
  secure: options.tls === 'implicit',
  hideSTARTTLS: options.tls !== 'starttls',
  disabledCommands: [
    ...(options.tls === 'starttls' ? [] : ['STARTTLS']),
    ...(options.login ? [] : ['AUTH']),
  ],
  authOptional: !options.login,
  // A client that sends its password in the clear must fail here as it does elsewhere.
  allowInsecureAuth: false,
  key: options.key && fs.readFileSync(options.key),
  cert: options.cert && fs.readFileSync(options.cert),

  onConnect(session, done) {
    connections += 1;
    if (busyEvery > 0 && connections % busyEvery === 0) return done(refusal(421, '4.3.2 too busy'));
    return connections === 1 && bannerMs > 0 ? setTimeout(done, bannerMs) : done();
  },

  onAuth(auth, session, done) {
    if (`${auth.username}:${auth.password}` === options.login) done(null, { user: auth.username });
    else done(refusal(535, '5.7.8 wrong user or password'));
  },

  onRcptTo(address, session, done) {
    const [code, text] = address.address.startsWith('reject')
      ? [550, '5.1.1 no such mailbox']
      : address.address.startsWith('later') || isGrey(address.address)
        ? [450, '4.2.1 mailbox busy']
        : [250, ''];
    if (code === 250) return setTimeout(done, recipientMs);
    print({ event: 'recipient_refused', to: address.address, answer: code });
    return done(refusal(code, text));
  },

  onData(stream, session, done) {
    print({ event: 'data', to: session.envelope.rcptTo.map((recipient) => recipient.address) });
    const chunks = [];
    if (cutsLeft > 0) {
      cutsLeft -= 1;
      stream.once('data', () => socketOf(session)?.destroy());
      return stream.resume();
    }
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => {
      let outcome = 'accepted';
      if (dropsLeft > 0) {
        dropsLeft -= 1;
        outcome = 'dropped';
      } else if (temporaryLeft > 0) {
        temporaryLeft -= 1;
        outcome = 'temporary';
      }
      const mail = {
        event: 'mail',
        outcome,
        at_ms: Date.now(),
        from: session.envelope.mailFrom.address,
        to: session.envelope.rcptTo.map((recipient) => recipient.address),
        user: session.user || null,
        tls: session.secure,
        raw: Buffer.concat(chunks).toString('base64'),
      };
      setTimeout(() => {
        print(mail);
        if (outcome === 'dropped') socketOf(session)?.destroy();
        else if (outcome === 'temporary') done(refusal(451, '4.3.0 try again later'));
        else {
          const socket = socketOf(session);
          done();
          // What was written still goes out.
          if (mail.to.some((address) => address.startsWith('bye'))) socket?.end();
        }
      }, delayMs);
    });
  },
});

// Clients that hang up in the middle are part of what tests do.
server.on('error', (error) => process.stderr.write(`${error.message}\n`));
server.listen(Number(options.port), '127.0.0.1', () => print({ event: 'listening', port: server.server.address().port }));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
