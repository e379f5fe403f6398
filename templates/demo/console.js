// Keeps the console up to date from one stream of server-sent events. Everything that comes
// from an event is put into the page as text, never as markup.
'use strict';

const $ = (id) => document.getElementById(id);
const origin = document.body.dataset.origin;
const regions = new Intl.DisplayNames(['en'], { type: 'region' });
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
const whole = new Intl.NumberFormat('en');
const KEPT = { events: 9, decisions: 30, seconds: 90 };

const state = { seconds: [], rounds: new Map(), round: null, mails: new Map(), mail: null, opened: new Set() };

// ---- small helpers

/** An element with a class and children; strings become text. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.setAttribute('class', 'icon small');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

function country(code) {
  try { return code ? regions.of(code) : null; } catch { return code; }
}

function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

function time(ms) {
  const element = make('time', 'when', clock.format(ms));
  element.dateTime = new Date(ms).toISOString();
  return element;
}

/** Puts `item` first and drops what is beyond `kept`. */
function prepend(list, item, kept) {
  list.prepend(item);
  while (list.children.length > kept) list.lastElementChild.remove();
}

// ---- traffic

function drawTraffic(traffic) {
  $('rate').textContent = traffic.per_second.toFixed(1);
  $('accounts').textContent = whole.format(traffic.accounts);
  $('accepted').textContent = whole.format(traffic.accepted);
  $('refused-count').textContent = whole.format(traffic.refused);
  $('locked').textContent = whole.format(traffic.locked);
  const seconds = state.seconds.slice(-KEPT.seconds);
  const top = Math.max(8, ...seconds.map(([a, b, c]) => a + b + c));
  const paths = ['', '', ''];
  const first = KEPT.seconds - seconds.length;
  seconds.forEach((second, at) => {
    let base = 36;
    second.forEach((count, kind) => {
      if (!count) return;
      const height = (count / top) * 34;
      paths[kind] += `M${first + at + 0.1} ${base}v${-height}h0.8v${height}z`;
      base -= height;
    });
  });
  ['accepted', 'refused', 'other'].forEach((kind, at) => $(`strip-${kind}`).setAttribute('d', paths[at]));
}

function eventItem(event) {
  const where = country(event.country);
  const item = make('li', `event ${event.tone}`,
    time(event.time),
    make('span', 'account', event.account || 'no account'),
    make('span', 'words', event.words),
    make('span', 'where', where || event.ip || ''));
  if (event.round) item.classList.add('attacked');
  return item;
}

// ---- decisions and locks

function decisionItem(decision) {
  const where = decision.countries.length > 1
    ? `${decision.countries.length} countries, last ${country(decision.country) || decision.ip || 'unknown'}`
    : country(decision.country) || decision.ip || 'place unknown';
  return make('li', `decision ${decision.effect}`,
    make('div', 'line', make('span', 'account', decision.account), time(decision.time)),
    make('p', 'words', decision.title),
    make('div', 'line', make('span', 'effect', decision.effect_words), make('span', 'where', where)));
}

const caseWords = {
  open: 'waits for its owner', asked: 'owner asked', secured: 'secured, needs a new password',
  unlocked: 'being unlocked', recovered: 'being unlocked', closed: 'being unlocked',
};

function drawLocks(locks) {
  $('locks-empty').hidden = locks.length > 0;
  $('locks').replaceChildren(...locks.slice(0, 30).map((lock) => make('li', `lock ${lock.state}`,
    icon('lock'),
    make('div', 'body',
      make('div', 'line', make('span', 'account', lock.account), time(lock.since)),
      make('p', 'words', lock.why),
      make('p', 'fine', `${caseWords[lock.state] || lock.state} · ${lock.scope === 'unfamiliar' ? 'known devices stay signed in' : 'nobody gets in'}`)))));
  $('locked').textContent = whole.format(locks.length);
}

// ---- the attack and its steps

const shown = ['attack', 'decision', 'lock', 'mail', 'answer', 'result'];

/** The step that fills a place of the stepper, if it was seen. */
function stepFor(round, place) {
  const find = (name) => round.steps.find((step) => step.step === name);
  if (place !== 'result') return find(place);
  return find('recovered') || find('secured') || find('unlocked');
}

function stepWords(place, step, round) {
  if (place === 'attack') return `on ${round.account}`;
  if (place === 'answer') return round.answer === 'me' ? '“This was me”' : '“This wasn’t me”';
  return step.ms === null ? clock.format(step.at) : `after ${duration(step.ms)}`;
}

const hints = Object.fromEntries([...document.querySelectorAll('#steps li')]
  .map((item) => [item.dataset.step, item.querySelector('.time').textContent]));

function drawStory() {
  const round = state.rounds.get(state.round);
  let waiting = true;
  for (const place of shown) {
    const item = document.querySelector(`#steps [data-step="${place}"]`);
    const step = round && stepFor(round, place);
    item.classList.toggle('done', Boolean(step));
    const next = Boolean(round) && !step && waiting;
    item.classList.toggle('next', next);
    if (next) item.setAttribute('aria-current', 'step'); else item.removeAttribute('aria-current');
    if (next) waiting = false;
    item.querySelector('.time').textContent = step ? stepWords(place, step, round) : hints[place];
    item.querySelector('.mark').replaceChildren(...(step ? [icon('check')] : []));
  }
  const result = round && stepFor(round, 'result');
  $('result-name').textContent = { unlocked: 'Unlocked', secured: 'Secured', recovered: 'Back in' }[result?.step] || 'Result';
  $('story').dataset.result = result?.step || '';
  drawGuide(round);
  const rounds = [...state.rounds.values()];
  $('round-pick').hidden = rounds.length < 2;
  $('rounds').replaceChildren(...rounds.reverse().map((one) => {
    const option = make('option', '', `${one.title}, ${one.account}`);
    option.value = one.id;
    option.selected = one.id === state.round;
    return option;
  }));
}

function guideFor(round) {
  const has = (name) => round.steps.some((step) => step.step === name);
  if (has('recovered')) return ['The password is changed and the lock is lifted. The owner is back in; the thief, with the old password, is not.', []];
  if (has('secured')) {
    const link = make('a', 'button primary', 'Set a new password', icon('out'));
    link.href = `/demo/password?case=${encodeURIComponent(round.case || '')}`;
    link.target = '_blank';
    link.rel = 'noopener';
    return ['Every session is ended and the lock stays until the owner sets a new password. Be the owner once more:', [link]];
  }
  if (has('unlocked')) return ['The account is open again, and doorward has learned what the owner confirmed. Try the same attack and answer “This wasn’t me”.', []];
  if (has('answer')) return ['The answer is on its way through Kafka to the account’s own partition…', []];
  if (has('mail')) {
    if (state.opened.has(round.mail)) return ['Read the mail below and follow its link, which opens in a new tab. Then look here again.', []];
    const open = make('button', 'primary', icon('mail'), 'Open the mail');
    open.type = 'button';
    open.addEventListener('click', () => openMail(round.mail, true));
    return [`Now you are the owner of ${round.account}. You have mail:`, [open]];
  }
  if (has('lock')) return ['The account is locked. The mail to its owner is on its way…', []];
  if (has('attack')) return ['The attack stands in the topic. Waiting for a decision…', []];
  return [`The attacker is at work on ${round.account}…`, []];
}

function drawGuide(round) {
  const [words, actions] = round ? guideFor(round) : ['Choose an attack above. Ordinary sign-ins go on around it.', []];
  if ($('guide').textContent !== words) {
    $('guide').textContent = words;
    if (round) $('announce').textContent = words;
    $('guide-actions').replaceChildren(...actions);
    $('guide-actions').hidden = actions.length === 0;
  }
  const refused = round?.steps.find((step) => step.step === 'refused');
  $('refused').hidden = !refused;
  if (refused) $('refused').textContent = `${duration(refused.ms)} after the attack the attacker tried to sign in, and was refused: the account is locked.`;
}

async function play(button) {
  button.disabled = true;
  $('trouble').hidden = true;
  try {
    const response = await fetch(`/demo/attack/${button.dataset.attack}`, { method: 'POST' });
    if (!response.ok) throw new Error(await response.text());
    state.round = (await response.json()).round;
    drawStory();
    $('story').scrollIntoView({ block: 'nearest' });
  } catch (error) {
    $('trouble').textContent = `The attack was not played: ${error.message || 'the demo does not answer'}`;
    $('trouble').hidden = false;
  } finally {
    button.disabled = false;
  }
}

// ---- the mailbox

function mailItem(mail) {
  const button = make('button', 'mail',
    make('span', 'line', make('span', 'to', mail.to), time(mail.at)),
    make('span', 'subject', mail.subject || 'no subject'),
    make('span', 'preview', mail.preview));
  button.type = 'button';
  button.dataset.mail = mail.id;
  button.addEventListener('click', () => openMail(mail.id, true));
  const item = make('li', '', button);
  if (state.opened.has(mail.id)) button.classList.add('read');
  return item;
}

function addMail(mail) {
  state.mails.set(mail.id, mail);
  prepend($('mails'), mailItem(mail), 100);
  $('mail-count').textContent = whole.format(state.mails.size);
  $('mail-empty').textContent = 'Choose a mail to read it.';
}

async function openMail(id, focus) {
  let mail;
  try {
    const response = await fetch(`/demo/mail/${id}`);
    if (!response.ok) throw new Error(await response.text());
    mail = await response.json();
  } catch (error) {
    $('mail-empty').textContent = `This mail cannot be opened: ${error.message}`;
    $('mail-empty').hidden = false;
    $('mail-open').hidden = true;
    return;
  }
  state.mail = id;
  state.opened.add(id);
  for (const button of document.querySelectorAll('#mails button')) {
    const current = Number(button.dataset.mail) === id;
    button.setAttribute('aria-current', current ? 'true' : 'false');
    if (current) button.classList.add('read');
  }
  $('mail-empty').hidden = true;
  $('mail-open').hidden = false;
  $('mail-subject').textContent = mail.subject;
  $('mail-from').textContent = mail.from;
  $('mail-to').textContent = mail.to;
  $('mail-at').replaceChildren(time(mail.at), ` · ${whole.format(mail.bytes)} bytes`);
  $('mail-raw').href = `/demo/mail/${id}/raw`;
  $('mail-text').replaceChildren(...linked(mail.text));
  $('part-html').replaceChildren(mail.has_html ? htmlFrame(mail) : make('p', 'empty', 'This mail has no HTML part.'));
  drawStory();
  if (focus) {
    $('reader').focus({ preventScroll: true });
    $('mailbox').scrollIntoView({ block: 'start' });
  }
}

function htmlFrame(mail) {
  const frame = make('iframe');
  frame.setAttribute('sandbox', 'allow-popups allow-popups-to-escape-sandbox');
  frame.referrerPolicy = 'no-referrer';
  frame.title = `HTML part of the mail “${mail.subject}”`;
  frame.src = `/demo/mail/${mail.id}/html`;
  return frame;
}

/** The text with its links to this very server made to work. */
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"()]+)/).map((piece) => {
    if (piece !== origin && !piece.startsWith(`${origin}/`)) return piece;
    const link = make('a', '', piece);
    link.href = piece;
    link.target = '_blank';
    link.rel = 'noopener';
    return link;
  });
}

function selectTab(name) {
  for (const one of ['html', 'text']) {
    const chosen = one === name;
    $(`tab-${one}`).setAttribute('aria-selected', String(chosen));
    $(`tab-${one}`).tabIndex = chosen ? 0 : -1;
    $(`part-${one}`).hidden = !chosen;
  }
}

// ---- the stream

const on = {
  snapshot(all) {
    state.seconds = all.seconds;
    state.rounds = new Map(all.rounds.map((round) => [round.id, round]));
    if (!state.rounds.has(state.round)) state.round = all.rounds.at(-1)?.id ?? null;
    state.mails = new Map();
    $('mails').replaceChildren();
    all.mails.forEach(addMail);
    $('mail-count').textContent = whole.format(all.mails.length);
    if (state.mail !== null && !state.mails.has(state.mail)) closeMail();
    $('events').replaceChildren();
    all.events.forEach(on.event);
    $('decisions').replaceChildren();
    $('decisions-empty').hidden = false;
    all.decisions.forEach(on.decision);
    drawLocks(all.locks);
    drawTraffic(all.traffic);
    drawStory();
  },
  traffic(traffic) {
    state.seconds.push(traffic.second);
    state.seconds = state.seconds.slice(-KEPT.seconds);
    drawTraffic(traffic);
  },
  event(event) { prepend($('events'), eventItem(event), KEPT.events); },
  decision(decision) {
    $('decisions-empty').hidden = true;
    prepend($('decisions'), decisionItem(decision), KEPT.decisions);
  },
  locks: drawLocks,
  mail: addMail,
  round(round) {
    state.rounds.set(round.id, round);
    state.round ??= round.id;
    if (round.id === state.round || state.rounds.size < 3) drawStory();
  },
};

function closeMail() {
  state.mail = null;
  $('mail-open').hidden = true;
  $('mail-empty').hidden = false;
}

function linkState(name, words) {
  $('link-state').dataset.state = name;
  $('link-words').textContent = words;
}

function connect() {
  const source = new EventSource('/demo/live');
  for (const name of Object.keys(on)) {
    source.addEventListener(name, (message) => {
      if (name === 'snapshot') linkState('live', 'Live');
      on[name](JSON.parse(message.data));
    });
  }
  source.addEventListener('error', () => {
    linkState('lost', 'Connection lost, trying again…');
    // A refusal ends the browser's own attempts.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

for (const button of document.querySelectorAll('[data-attack]')) {
  button.addEventListener('click', () => play(button));
}
$('rounds').addEventListener('change', (change) => {
  state.round = change.target.value;
  drawStory();
});
for (const name of ['html', 'text']) {
  $(`tab-${name}`).addEventListener('click', () => selectTab(name));
  $(`tab-${name}`).addEventListener('keydown', (key) => {
    if (key.key !== 'ArrowLeft' && key.key !== 'ArrowRight') return;
    const other = name === 'html' ? 'text' : 'html';
    selectTab(other);
    $(`tab-${other}`).focus();
  });
}
connect();
