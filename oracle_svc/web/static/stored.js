// Work with the browser's store; null where it keeps nothing: a private window, a full disk.

export function stored(work) {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return null;
  }
}
