/**
 * Writes words into the elements that ask for them by name: `data-word` for what they say, `data-hint` for their tooltip,
 * `data-spoken` for what only screen readers say, `data-placeholder` and `data-alt` for these attributes. HTML has the English
 * words, too: they can be read before this has run.
 */

/** @type {Record<string, (element: any, word: string) => void>} */
const PLACES = {
  word: (element, word) => (element.textContent = word),
  hint: (element, word) => (element.title = word),
  spoken: (element, word) => (element.ariaLabel = word),
  placeholder: (element, word) => (element.placeholder = word),
  alt: (element, word) => (element.alt = word),
};

/** @param {Record<string, any>} words by the names that elements give */
export function label(words) {
  for (const [place, write] of Object.entries(PLACES)) {
    for (const element of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`[data-${place}]`))) {
      const name = element.dataset[place] ?? "";
      if (Object.hasOwn(words, name)) write(element, words[name]);
    }
  }
}
