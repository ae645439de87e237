// Which digit key chooses which class.

const KEYS = 10;

const digit = (name) => /^[0-9]$/.test(name);

// For each class its key, or null: 1 to 9 and then 0 in order, except that a class whose name is a digit has that key,
// and then no class has another.
export function keysOf(classes) {
  if (classes.some(digit)) return classes.map((name) => (digit(name) ? name : null));
  return classes.map((_, index) => (index < KEYS ? `${(index + 1) % KEYS}` : null));
}

// The same in words; empty without classes.
export function keysInWords(classes) {
  if (!classes.length) return "";
  if (classes.some(digit)) {
    const others = classes.every(digit) ? "" : "; click or tap the others";
    return `Keys: a digit chooses the class of that name${others}.`;
  }
  if (classes.length === 1) return "Key: 1.";
  const last = classes.length < KEYS ? ` to ${classes.length}` : " to 9, then 0";
  const others = classes.length > KEYS ? "; / finds the others by name" : "";
  return `Keys: 1${last}, in the order of the classes${others}.`;
}
