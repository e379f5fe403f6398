'use strict';
// Filters the rows of accounts and decisions. Everything is on the page without it.
(() => {
  const form = document.querySelector('.filter');
  if (!form) return;
  const rows = [...document.querySelectorAll('tr[data-row]')].map((row) => ({
    row, text: row.textContent.toLowerCase(), told: row.dataset,
  }));
  const shown = form.querySelector('output');
  const apply = () => {
    const text = form.elements.text.value.trim().toLowerCase();
    const chosen = ['rule', 'country', 'effect'].map((name) => [name, form.elements[name].value]);
    const account = form.elements.account.value.trim().toLowerCase();
    let count = 0;
    for (const { row, text: all, told } of rows) {
      const fits = all.includes(text)
        && told.account.toLowerCase().includes(account)
        && chosen.every(([name, value]) => !value || told[name].split(', ').includes(value));
      row.hidden = !fits;
      count += fits ? 1 : 0;
    }
    shown.value = `${count} of ${rows.length} rows shown`;
  };
  form.addEventListener('input', apply);
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('reset', () => setTimeout(apply));
  form.hidden = false;
  apply();
})();
