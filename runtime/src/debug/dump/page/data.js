'use strict';
// The dump as the page holds it: an index by columns, details as lines of JSON that are
// parsed when they are looked at, and a table of all different lines of code.

const $ = (id) => document.getElementById(id);
const held = (id) => $(id).textContent;
const index = JSON.parse(held('index'));
index.eip ??= [];
const count = index.eip.length;
const details = held('details').split('\n');
let strings = null;

/** The line of code, or name, with this number. */
function text(number) {
  strings ??= JSON.parse(held('table'));
  return strings[number];
}

const hex = (n) => n.toString(16).padStart(8, '0');
const number = (n) => n.toLocaleString('en');

/** Expansion of a block: host bytes for one of the guest's. */
const ratio = (b) => index.host[b] / Math.max(index.guest[b], 1);

/** The first block at an address. */
const byAddress = new Map();
for (let b = count - 1; b >= 0; b--) byAddress.set(index.eip[b], b);

/** The block that begins at an address, else of those that hold it the hottest; or -1. */
function blockAt(address) {
  const exact = byAddress.get(address);
  if (exact !== undefined) return exact;
  let best = -1;
  const heat = (b) => index.samples[b] * 1e6 + index.entered[b];
  index.eip.forEach((eip, b) => {
    const holds = eip <= address && address < eip + index.guest[b];
    if (holds && (best < 0 || heat(b) > heat(best))) best = b;
  });
  return best;
}

/** [[part, line], …] of a column, whose parts stand before their lines as negative numbers. */
function lines(column) {
  const found = [];
  let part = 0;
  for (const n of column) {
    if (n < 0) part = -1 - n;
    else found.push([part, text(n)]);
  }
  return found;
}

/** Everything about a block's code. */
function detail(b) {
  const [parts, clif, optimised, host, out, into, reason] = JSON.parse(details[b]);
  let at = 0;
  const hostLines = lines(host).map(([part, line]) => {
    const space = line.indexOf(' ');
    const length = +line.slice(0, space);
    at += length;
    return {part, at: at - length, length, text: line.slice(space + 1)};
  });
  const column = (c) => lines(c).map(([part, line]) => ({part, text: line}));
  return {
    parts: parts.map(([kind, eip, line, bytes, callout]) =>
      ({kind: text(kind), eip, text: text(line), bytes, callout})),
    clif: column(clif),
    optimised: column(optimised === 0 ? clif : optimised),
    host: hostLines, out, into, reason,
  };
}

/** An element with a class, and text or children. */
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}
