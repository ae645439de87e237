// Which digit key chooses which class.

const KEYS = 10;

// For each class its key, or null: 1 to 9 and then 0 in order, except that a class whose name is a digit has that key,
// and then no class has another.
export function keysOf(classes) {
  const digit = (name) => /^[0-9]$/.test(name);
  if (classes.some(digit)) return classes.map((name) => (digit(name) ? name : null));
  return classes.map((_, index) => (index < KEYS ? `${(index + 1) % KEYS}` : null));
}
