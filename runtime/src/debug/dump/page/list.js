// The list of blocks: filtered, sorted, and only those rows made that can be seen.

const ROW = 46;
let shown = [];
let chosen = -1;

/** What the filter looks into, made when it is first needed. */
let haystacks = null;
function haystack(b) {
  haystacks ??= index.eip.map((eip, n) => [
    hex(eip), index.symbol[n] || '', text(index.mode[n]), text(index.form[n]),
    text(index.end[n]), text(index.origin[n]),
  ].join('\n').toLowerCase());
  return haystacks[b];
}

const sorts = {
  eip: (b) => index.eip[b],
  samples: (b) => -index.samples[b],
  entered: (b) => -index.entered[b],
  instructions: (b) => -index.instructions[b],
  host: (b) => -index.host[b],
  ratio: (b) => -ratio(b),
  ns: (b) => -index.ns[b],
  exits: (b) => -index.exits[b],
};

/** The words of the filter; "ring 0" and the like are one. */
function words() {
  const typed = $('filter').value.trim().toLowerCase().replace(/^0x/, '');
  return typed.match(/ring \d|real mode|(?:[^\s]+)/g) || [];
}

/** Filters and sorts anew. */
function refresh() {
  const wanted = words();
  shown = [];
  for (let b = 0; b < count; b++) {
    if (wanted.every((word) => haystack(b).includes(word))) shown.push(b);
  }
  const key = Float64Array.from({length: count}, (_, b) => sorts[$('sort').value](b));
  shown.sort((a, b) => key[a] - key[b] || a - b);
  const some = shown.length === count ? '' : `${number(shown.length)} of `;
  $('count').textContent = `${some}${number(count)} blocks`;
  $('rows').style.height = `${shown.length * ROW}px`;
  $('list').scrollTop = 0;
  reveal();
  draw();
}

const most = {};
/** The largest value of a column. */
function largest(column) {
  most[column] ??= index[column].reduce((a, b) => Math.max(a, b), 1);
  return most[column];
}

function row(b, place) {
  const column = $('sort').value === 'entered' ? 'entered' : 'samples';
  const value = index[column][b];
  const figures = {
    instructions: `${index.instructions[b]} instructions`,
    host: `${number(index.host[b])} bytes`,
    ratio: `${ratio(b).toFixed(1)} to 1`,
    ns: `${(index.ns[b] / 1000).toFixed(1)} µs`,
    exits: `${index.exits[b]} side exits`,
    entered: `${number(index.entered[b])} entries`,
  };
  const figure = figures[$('sort').value] ?? (value ? `${number(value)} samples` : '');
  const bar = element('i');
  bar.style.width = `${100 * Math.sqrt(value / largest(column))}%`;
  const made = element('div', 'row',
    element('span', '', figure), element('b', '', hex(index.eip[b])),
    element('div', '', index.symbol[b] || `${text(index.mode[b])}, ${text(index.form[b])}`), bar);
  made.style.top = `${place * ROW}px`;
  made.dataset.block = b;
  made.setAttribute('role', 'option');
  made.setAttribute('aria-selected', b === chosen);
  return made;
}

/** Makes the rows that can be seen. */
function draw() {
  const list = $('list');
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 5);
  const rows = [];
  for (let place = first; place < last; place++) rows.push(row(shown[place], place));
  $('rows').replaceChildren(...rows);
}

/** Scrolls to the chosen block, if it is in the list. */
function reveal() {
  const place = shown.indexOf(chosen);
  if (place < 0) return;
  const list = $('list');
  const top = place * ROW;
  if (top < list.scrollTop || top + ROW > list.scrollTop + list.clientHeight) {
    list.scrollTop = top - list.clientHeight / 3;
  }
}

/** Chooses the block so many places further down. */
function step(by) {
  if (!shown.length) return;
  const place = shown.indexOf(chosen);
  const next = place < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, place + by));
  choose(shown[next]);
}

/** Shows a block, and its address in the page's. */
function choose(b, address = index.eip[b]) {
  if (byAddress.get(index.eip[b]) !== b) {
    // Another block at the same address: the page's address cannot tell them apart.
    history.pushState(null, '', `#${hex(address)}.${b}`);
    follow();
  } else if (location.hash === `#${hex(address)}`) {
    follow();
  } else {
    location.hash = hex(address);
  }
}

/** Shows what the page's address says. */
function follow() {
  const [, digits, exact] = location.hash.match(/^#(?:0x)?([0-9a-f]+)(?:\.(\d+))?$/i) || [];
  const address = parseInt(digits, 16);
  let b = exact === undefined ? blockAt(address) : +exact;
  if (!(b >= 0 && b < count)) {
    if (digits) $('count').textContent = `no block at ${digits}`;
    b = chosen >= 0 ? chosen : shown[0] ?? -1;
  }
  chosen = b;
  reveal();
  draw();
  show(b, address);
}
