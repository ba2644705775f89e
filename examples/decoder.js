// Unpacks a .lilliput file with nothing but the standard library: docs/format.md in one page.
//     node decoder.js model.lilliput folder
// It trusts its input. Untrusted files belong to `lilliput unpack`, which checks every length.
"use strict";
const fs = require("node:fs"), path = require("node:path"), zlib = require("node:zlib");
const crypto = require("node:crypto");

class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  byte() { return this.bytes[this.at++]; }
  take(size) { this.at += size; return this.bytes.subarray(this.at - size, this.at); }
  rest() { return this.take(this.bytes.length - this.at); }
  varint() {
    let value = 0, scale = 1;
    for (;;) {
      const group = this.byte();
      value += (group & 127) * scale;
      if (group < 128) return value;
      scale *= 128;
    }
  }
  signed() { const n = this.varint(); return n % 2 ? -(n + 1) / 2 : n / 2; }
}

// ---- Tokens: magnitude index -> first magnitude and number of raw bits
function ranges(split) {
  const first = [], bits = [];
  for (let m = 0; m < 1 << split; m++) { first.push(m); bits.push(0); }
  for (let octave = split; octave < 32; octave++)
    for (const half of [2, 3]) { first.push(half * 2 ** (octave - 1)); bits.push(octave - 1); }
  return { first, bits };
}

// ---- The integer table procedure. Numbers stay below 2^53; the last division needs BigInt.
const ONE = 2 ** 26, roots = [];
for (let i = 0, root = ONE / 2; i < 16; i++) roots.push((root = Math.floor(Math.sqrt(root * ONE))));
function log2(n) {
  let exponent = 25;
  while (n >= ONE) { n = Math.floor(n / 2); exponent++; }
  while (n < ONE / 2) { n *= 2; exponent--; }
  for (let i = 0; i < 16; i++) {
    n = Math.floor((n * n) / 2 ** 25);
    exponent *= 2;
    if (n >= ONE) { n = Math.floor(n / 2); exponent++; }
  }
  return exponent;
}
function exp2Negative(e) {
  let power = ONE;
  for (let i = 0; i < 16; i++)
    if (Math.floor(e / 2 ** (15 - i)) % 2) power = Math.floor((power * roots[i]) / ONE);
  return Math.floor(power / 2 ** Math.min(Math.floor(e / 65536), 40));
}
function density(n, scale, shape) {
  let e = Math.floor(((log2(n) - 4 * 65536 - (scale - 64) * 8192) * shape) / 8);
  e = Math.min(Math.max(e, -17 * 65536), 5 * 65536);
  const whole = Math.floor(e / 65536) + 1;
  return exp2Negative(Math.floor(exp2Negative(whole * 65536 - e) / 2 ** (10 - whole)));
}
function familyTable(scale, shape, zero, split, escape) {
  const { first, bits } = ranges(split), weights = [];
  for (let token = 0; token < escape; token++) {
    const index = (token + 1) >> 1, width = 2 ** bits[index];
    let sum = 0;
    for (let j = 1; j < 16; j += 2)
      sum += density(index ? 16 * first[index] - 8 + width * j : j < 8 ? j : 16 - j, scale, shape);
    weights.push(BigInt(index ? sum * width : Math.max(sum, 1)));
  }
  const up = Math.max((zero - 128 + 15) >> 4, 0), down = up * 16 - (zero - 128);
  const scaled = ((weights[0] * BigInt(exp2Negative(down * 4096))) >> 26n) << BigInt(up);
  weights[0] = scaled > 1n ? scaled : 1n;
  const total = weights.reduce((a, b) => a + b);
  const table = weights.map((w) =>
    w * 4n * 4095n >= total ? Math.max(Number((w * 4095n) / total), 1) : 0);
  table.push(1);
  const largest = table.indexOf(Math.max(...table));
  table[largest] += 4096 - table.reduce((a, b) => a + b);
  return table;
}

// ---- Coded matrices -> Float64Array of rows * columns integers
const STRIDES = [0, 1, 2, 4, 8];
function decodeMatrix(bytes) {
  const r = new Reader(bytes), flags = r.byte(), rows = r.varint(), columns = r.varint();
  const count = rows * columns, out = new Float64Array(count);
  if (!count) return out;
  const offset = flags & 64 ? r.signed() : 0, strides = [flags % 32 % 5, flags % 32 / 5 | 0].map((i) => STRIDES[i]);
  const sides = strides.map((stride) => stride ? decodeMatrix(r.take(r.varint())) : null);
  const split = r.byte(), escape = r.byte(), { first, bits } = ranges(split);
  if (!escape) return out.fill(offset);
  const base = r.byte(), line = (side, i) => sides[side] ? sides[side][i] * strides[side] : 0;
  const scaleAt = (i) => Math.min(base + line(0, i / columns | 0) + line(1, i % columns), 191);
  const used = new Set();
  for (let i = 0; i < count; i++) used.add(scaleAt(i));
  const scales = [...used].sort((a, b) => a - b), tables = new Map();
  if (flags & 32) {
    for (const scale of scales) {
      const table = new Array(escape + 1).fill(0), size = r.varint();
      let left = 4096;
      for (let token = 0; token < size; token++) left -= table[token] = r.varint();
      table[escape] = left;
      tables.set(scale, table);
    }
  } else {
    const shape = r.byte(), zero = r.byte();
    for (const scale of scales) tables.set(scale, familyTable(scale, shape, zero, split, escape));
  }
  for (const [scale, table] of tables) {  // slot -> token, frequency, start
    const slots = [];
    for (let token = 0, start = 0; token <= escape; start += table[token++])
      for (let i = 0; i < table[token]; i++) slots.push([token, table[token], start]);
    tables.set(scale, slots);
  }
  const lanes = r.varint(), raw = new Reader(r.take(r.varint()));
  const states = Array.from({ length: lanes }, () => r.take(4)).map((b) => Buffer.from(b).readUInt32LE());
  let rawBit = 0;
  const field = (width) => {
    let value = 0;
    for (; width; width--, rawBit++) value = value * 2 + ((raw.bytes[rawBit >> 3] >> (7 - rawBit % 8)) & 1);
    return value;
  };
  for (let i = 0; i < count; i++) {
    const lane = i % lanes, state = states[lane], slot = state % 4096;
    const [token, frequency, start] = tables.get(scaleAt(i))[slot];
    let next = frequency * Math.floor(state / 4096) + slot - start;
    if (next < 65536) { next = next * 65536 + r.byte(); next += 256 * r.byte(); }
    states[lane] = next;
    let value;
    if (token === escape) {
      const whole = field(33);
      value = whole % 2 ? -Math.floor(whole / 2) : whole / 2;
    } else {
      const index = (token + 1) >> 1, magnitude = first[index] + field(bits[index]);
      value = token % 2 ? magnitude : -magnitude;
    }
    out[i] = value + offset;
  }
  return out;
}

// ---- Tensor streams -> bytes
const WIDTHS = [1, 1, 2, 2, 4, 4, 8, 8];
function littleEndian(values, width) {
  const out = Buffer.alloc(values.length * width);
  values.forEach((value, i) => {
    if (width === 8) out.writeBigInt64LE(BigInt(value), i * 8);
    else out.writeUIntLE(value < 0 ? value + 256 ** width : value, i * width, width);
  });
  return out;
}
function halfToFloat(h) {
  const sign = h & 0x8000 ? -1 : 1, exponent = (h >> 10) & 31, fraction = h & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
function decodeStream(bytes, size) {
  const r = new Reader(bytes), form = r.byte();
  if (form === 0) return r.rest();
  if (form === 1) return zlib.inflateRawSync(r.rest());
  if (form === 2) { const width = WIDTHS[r.byte()]; return littleEndian(decodeMatrix(r.rest()), width); }
  if (form === 3) {
    const half = Buffer.from(decodeStream(r.rest(), size / 2)), out = Buffer.alloc(size);
    for (let i = 0; i < size / 4; i++) out.writeFloatLE(halfToFloat(half.readUInt16LE(2 * i)), 4 * i);
    return out;
  }
  if (form === 4) {
    const width = r.byte(), number = r.varint(), colours = decodeStream(r.take(r.varint()), number * width);
    const index = [...decodeMatrix(r.rest())];
    return Buffer.concat(index.map((i) => colours.subarray(i * width, (i + 1) * width)));
  }
  if (form === 5) {
    const flags = r.byte(), width = flags & 127, count = size / width, out = Buffer.alloc(size);
    for (let plane = 0; plane < width; plane++)
      decodeStream(r.take(r.varint()), count).forEach((byte, i) => { out[i * width + plane] = byte; });
    if (flags & 128)
      for (let i = 0; i < size; i += width) {  // rotate each element right by one bit
        const low = out[i] & 1;
        for (let j = i; j < i + width; j++) out[j] = out[j] >> 1 | ((j + 1 < i + width ? out[j + 1] : low) & 1) << 7;
      }
    return out;
  }
  const codes = decodeMatrix(r.rest());
  return Buffer.from({ length: size }, (_, i) => codes[2 * i] | codes[2 * i + 1] << 4);
}

// ---- The container
function unpack(file, folder) {
  const data = fs.readFileSync(file), r = new Reader(data);
  if (r.take(8).toString("latin1") !== "\x89LLP\r\n\x1a\n") throw new Error("not a .lilliput file");
  const size = r.take(4).readUInt32LE();
  r.take(8);  // decoded size and checksum of the header
  const header = JSON.parse(zlib.inflateRawSync(r.take(size)).toString());
  for (const entry of header.files) {
    const stream = (coded, decoded) => decodeStream(r.take(coded).subarray(0, -4), decoded);
    const kept = entry.bytes - entry.cuts.reduce((sum, cut) => sum + cut[1], 0);
    const skeleton = stream(entry.skeleton, kept), parts = [];
    let at = 0;
    for (const [gap, decoded, coded] of entry.cuts) {
      parts.push(skeleton.subarray(at, (at += gap)), stream(coded, decoded));
    }
    const whole = Buffer.concat([...parts, skeleton.subarray(at)]);
    if (crypto.createHash("sha256").update(whole).digest("hex") !== entry.sha256)
      throw new Error(`${entry.name}: wrong hash`);
    const target = path.join(folder, entry.name);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.writeFileSync(target, whole);
  }
}
unpack(process.argv[2], process.argv[3]);
