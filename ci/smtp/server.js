// A real SMTP server for the tests: takes mail over plain TCP, STARTTLS or TLS, prints what it
// took, and misbehaves on request. It keeps nothing, relays nothing, and listens on loopback.
//
//   node server.js --tls none|starttls|implicit [--key FILE --cert FILE] [--login USER:PASSWORD]
//                  [--temporary N] [--drop N] [--delay MS]
//
// --temporary N  answers 451 to the first N messages
// --drop N       cuts the connection after the first N messages' data, before the answer
// --delay MS     waits that long before it answers a message
//
// A recipient that starts with `reject` is answered 550, one that starts with `later` 450.
//
// Standard output is one JSON object a line: {"event":"listening","port":N} first, then
// {"event":"mail",...} for each message and {"event":"recipient_refused",...} for each refused
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
  },
});

let temporaryLeft = Number(options.temporary);
let dropsLeft = Number(options.drop);
const delayMs = Number(options.delay);

function print(record) {
  process.stdout.write(`${JSON.stringify(record)}\n`);
}

function refusal(code, message) {
  return Object.assign(new Error(message), { responseCode: code });
}

function cut(session) {
  for (const connection of server.connections) {
    if (connection.session === session) connection._socket.destroy();
  }
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

  onAuth(auth, session, done) {
    if (`${auth.username}:${auth.password}` === options.login) done(null, { user: auth.username });
    else done(refusal(535, '5.7.8 wrong user or password'));
  },

  onRcptTo(address, session, done) {
    const [code, text] = address.address.startsWith('reject')
      ? [550, '5.1.1 no such mailbox']
      : address.address.startsWith('later')
        ? [450, '4.2.1 mailbox busy']
        : [250, ''];
    if (code === 250) return done();
    print({ event: 'recipient_refused', to: address.address, answer: code });
    return done(refusal(code, text));
  },

  onData(stream, session, done) {
    const chunks = [];
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
        from: session.envelope.mailFrom.address,
        to: session.envelope.rcptTo.map((recipient) => recipient.address),
        user: session.user || null,
        tls: session.secure,
        raw: Buffer.concat(chunks).toString('base64'),
      };
      setTimeout(() => {
        print(mail);
        if (outcome === 'dropped') cut(session);
        else if (outcome === 'temporary') done(refusal(451, '4.3.0 try again later'));
        else done();
      }, delayMs);
    });
  },
});

// Clients that hang up in the middle are part of what tests do.
server.on('error', (error) => process.stderr.write(`${error.message}\n`));
server.listen(0, '127.0.0.1', () => print({ event: 'listening', port: server.server.address().port }));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
