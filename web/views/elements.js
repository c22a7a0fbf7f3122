/** Elements: found, made, and given a text only where it is another one. */

/**
 * The element with this id, which the page's HTML has.
 *
 * @param {string} id
 * @returns {any} an element; its kind is known where it is used
 */
export function find(id) {
  return document.getElementById(id);
}

/** @param {string} tag @param {string} className @returns {HTMLElement} */
export function make(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

/** @param {HTMLElement} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
