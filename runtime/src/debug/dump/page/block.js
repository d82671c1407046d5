// One block: what there is to say of it, and its stages. Whatever belongs to a part of
// the block bears the part's number, by which it lights up together.

const STAGES = [['clif', 'CLIF'], ['optimised', 'CLIF, compiled'], ['host', 'Host']];
const WIDTHS = {guest: 'minmax(17em, 1fr)', clif: 'minmax(20em, 1.5fr)', optimised: 'minmax(20em, 1.5fr)', host: 'minmax(20em, 1.4fr)'};
const visible = {clif: true, optimised: false, host: true};
let aligned = true;
let block = null;
let pinned = -1;

function fact(name, value) {
  return element('div', '', element('dt', '', name), element('dd', '', value));
}

function ways(name, edges) {
  const line = element('div', 'ways', element('b', '', name));
  for (const [eip, bits, given] of edges.slice(0, 40)) {
    const known = byAddress.get(eip);
    const symbol = given || (known !== undefined && index.symbol[known]) || '';
    const chip = element(known === undefined ? 'span' : 'a', bits & 1 ? 'chip way' : 'chip way dashed',
      `${hex(eip)} ${symbol}`.trim());
    if (known !== undefined) chip.href = `#${hex(eip)}`;
    chip.title = bits & 1 ? 'linked: code leads straight there' : bits & 2 ? 'no link' : 'has not run';
    line.append(chip);
  }
  if (edges.length > 40) line.append(` and ${edges.length - 40} more`);
  return edges.length ? line : '';
}

function runs(b) {
  const times = `${number(index.entered[b])}×`;
  if (index.exact[b] & 2) return 'uncounted: known before';
  return index.exact[b] ? times : `${times} interpreted, then uncounted`;
}

function head(b) {
  const origin = text(index.origin[b]);
  const notes = {
    listing: 'compiled for this listing; interpreted so far',
    another: 'compiled for this listing; other code ran',
  };
  const chips = [text(index.mode[b]), `ends with ${text(index.end[b])}`, text(index.form[b])];
  const facts = element('dl', 'facts',
    fact('instructions', number(index.instructions[b])), fact('guest bytes', number(index.guest[b])),
    fact('host bytes', number(index.host[b])), fact('expansion', `${ratio(b).toFixed(1)} to 1`),
    fact('translated in', `${(index.ns[b] / 1000).toFixed(1)} µs`), fact('entered', runs(b)),
    fact('samples', number(index.samples[b])), fact('side exits', number(index.exits[b])),
    fact('physical', hex(index.physical[b])));
  const title = element('h2', '', index.symbol[b] || hex(index.eip[b]));
  if (index.symbol[b]) title.append(' ', element('small', '', hex(index.eip[b])));
  $('head').replaceChildren(title,
    ...chips.map((chip) => element('span', 'chip', chip)),
    ...[notes[origin], block.reason].filter(Boolean).map((note) => element('span', 'chip warn', note)),
    facts, ways('from', block.into), ways('to', block.out));
}

/** Text with addresses of blocks made links. */
function linked(line, pattern) {
  const pieces = line.split(pattern);
  return pieces.map((piece, n) => {
    const known = n % 2 ? byAddress.has(parseInt(piece, 16)) : false;
    if (!known) return piece;
    const link = element('a', '', piece);
    link.href = `#${hex(parseInt(piece, 16))}`;
    return link;
  });
}

function code(className, before, line, pattern) {
  const [main, comment] = line.split('  ; ');
  const space = main.indexOf(' ') < 0 ? main.length : main.indexOf(' ');
  const made = element('div', className, element('s', '', before), element('u', '', main.slice(0, space)),
    ...linked(main.slice(space), pattern));
  if (comment) made.append(element('em', '', `  ; ${comment}`));
  return made;
}

function guestLines(part) {
  if (part.kind !== 'instruction') {
    const from = part.kind.startsWith('exit') ? ` (${hex(part.eip)})` : '';
    return [element('div', 'l exit', part.text + from)];
  }
  const line = code('l', `${hex(part.eip)}  `, part.text, /([0-9A-F]{8})(?=h)/);
  line.title = part.bytes.replace(/../g, '$& ');
  return part.callout ? [line, element('div', 'l callout', '          ↳ callout: the runtime carries it out')] : [line];
}

function stageLine(stage, line) {
  if (stage === 'host') {
    return code('l', `${line.at.toString(16).padStart(4)}  `, line.text, /(?<=block )([0-9a-f]{8})/);
  }
  if (line.text.startsWith('block')) return element('div', 'l label', line.text);
  const [main, comment] = line.text.trim().split('  ; ');
  const made = element('div', 'l', `  ${main}`);
  if (comment) made.append(element('em', '', `  ; ${comment}`));
  return made;
}

const stagesNow = () => STAGES.filter(([stage]) => visible[stage] && block[stage].length);

function drawAligned(panes, stages) {
  const title = element('div', 'part title', element('div', '', 'Guest'),
    ...stages.map(([, name]) => element('div', '', name)));
  const rows = block.parts.map((part, n) => {
    const made = element('div', 'part', element('div', '', ...guestLines(part)),
      ...stages.map(([stage]) => element('div', '', ...block[stage]
        .filter((line) => line.part === n).map((line) => stageLine(stage, line)))));
    made.dataset.part = n;
    return made;
  });
  panes.replaceChildren(title, ...rows);
}

function drawLaidOut(panes, stages) {
  const marked = (made, part) => { made.dataset.part = part; return made; };
  const guest = block.parts.flatMap((part, n) => guestLines(part).map((line) => marked(line, n)));
  panes.replaceChildren(element('div', 'pane', element('h3', '', 'Guest'), ...guest),
    ...stages.map(([stage, name]) => element('div', 'pane', element('h3', '', name),
      ...block[stage].map((line) => marked(stageLine(stage, line), line.part)))));
}

/** Draws the stages that are wanted. */
function drawPanes() {
  const panes = $('panes');
  const stages = stagesNow();
  panes.className = aligned ? 'aligned' : 'laid';
  panes.style.setProperty('--columns', ['guest', ...stages.map(([stage]) => stage)].map((s) => WIDTHS[s]).join(' '));
  (aligned ? drawAligned : drawLaidOut)(panes, stages);
  $('stages').replaceChildren(...STAGES.map(([stage, name], n) => {
    const button = element('button', '', name);
    button.title = n + 1;
    button.disabled = !block[stage].length;
    button.setAttribute('aria-pressed', visible[stage]);
    button.onclick = () => { visible[stage] = !visible[stage]; drawPanes(); };
    return button;
  }));
  $('layout').textContent = aligned ? 'as laid out' : 'by instruction';
  light('pin', pinned);
}

/** Gives a class to all that belongs to a part, and to nothing else. */
function light(className, part) {
  for (const lit of $('panes').querySelectorAll(`.${className}`)) lit.classList.remove(className);
  if (part < 0) return;
  for (const line of $('panes').querySelectorAll(`[data-part="${part}"]`)) line.classList.add(className);
}

/** Keeps a part lit, and brings it into view in every pane. */
function pin(part, scroll) {
  pinned = part;
  light('pin', part);
  if (part < 0 || !scroll) return;
  const holders = aligned ? [$('panes')] : $('panes').querySelectorAll('.pane');
  for (const holder of holders) {
    const line = holder.querySelector('.pin');
    if (!line) continue;
    const top = line.offsetTop - holder.offsetTop - holder.scrollTop;
    if (top < 30 || top > holder.clientHeight - 40) holder.scrollTop += top - holder.clientHeight / 3;
  }
}

/** Shows a block; the instruction at `address`, if it is not the first, is pinned. */
function show(b, address) {
  if (b < 0) {
    $('head').replaceChildren(element('h2', '', 'no blocks'));
    return;
  }
  block = detail(b);
  pinned = address === index.eip[b] ? -1 : block.parts.findIndex((part) => part.kind === 'instruction' && part.eip === address);
  document.title = `${index.symbol[b] || hex(index.eip[b])} – ring1 dump`;
  head(b);
  drawPanes();
  $('panes').scrollTop = 0;
  pin(pinned, true);
}

const partOf = (event) => +(event.target.closest('[data-part]')?.dataset.part ?? -1);

$('panes').addEventListener('mouseover', (event) => light('hot', partOf(event)));
$('panes').addEventListener('mouseleave', () => light('hot', -1));
$('panes').addEventListener('click', (event) => {
  const part = partOf(event);
  if (part < 0 || event.target.closest('a') || getSelection().toString()) return;
  pin(part === pinned ? -1 : part, !aligned);
  if (pinned >= 0) history.replaceState(null, '', `#${hex(block.parts[pinned].eip)}${location.hash.match(/\.\d+$/) || ''}`);
});

function stepPart(by) {
  const part = Math.min(block.parts.length - 1, Math.max(0, pinned + by));
  pin(part, true);
}

const KEYS = {
  j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
  PageDown: () => step(10), PageUp: () => step(-10), n: () => stepPart(1), p: () => stepPart(-1),
  '/': () => $('filter').select(), a: () => $('layout').click(), t: () => $('theme').click(),
  '?': () => $('help').showModal(),
};
STAGES.forEach((_, n) => { KEYS[n + 1] = () => $('stages').children[n].click(); });

document.addEventListener('keydown', (event) => {
  const typing = event.target === $('filter');
  if (event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
  if (event.key === 'Escape' && typing) {
    $('filter').value = '';
    refresh();
    $('list').focus();
  } else if (event.key === 'Enter' && typing) {
    if (shown.length) choose(shown[0]);
    $('list').focus();
  } else if (KEYS[event.key] && (!typing || event.key.startsWith('Arrow')) && event.target !== $('sort')) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

$('filter').oninput = refresh;
$('sort').onchange = refresh;
$('list').onscroll = draw;
$('rows').onclick = (event) => {
  const b = event.target.closest('.row')?.dataset.block;
  if (b !== undefined) choose(+b);
};
$('layout').onclick = () => { aligned = !aligned; drawPanes(); pin(pinned, true); };
$('keys').onclick = () => $('help').showModal();
$('theme').onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
};
addEventListener('hashchange', follow);
addEventListener('resize', draw);

$('about').textContent = `${index.about.guest}, ${index.about.tier}`;
if (index.samples?.some((n) => n > 0)) $('sort').value = 'samples';
refresh();
follow();
// How long it took until there was something to see.
document.documentElement.dataset.ready = Math.round(performance.now());
