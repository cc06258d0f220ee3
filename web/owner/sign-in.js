// Says why the sign-in before did not work. The form itself needs no script.

const REASONS = {
  wrong: 'That was not right.',
  slow: 'Too many tries; wait a moment.',
};

const asked = new URLSearchParams(location.search);
const reason = Object.entries(REASONS).find(([name]) => asked.has(name));
const error = document.getElementById('error');
const field = document.getElementById('token');
if (reason && error && field) {
  error.textContent = reason[1];
  error.hidden = false;
  field.setAttribute('aria-describedby', 'error');
  field.setAttribute('aria-invalid', 'true');
}
