// Says why the sign-in before did not work. The form itself needs no script.

import { words } from '../shared/words.js';

const asked = new URLSearchParams(location.search);
const reason = asked.has('wrong') ? words.sign_in.wrong : asked.has('slow') ? words.sign_in.slow : null;
const error = document.getElementById('error');
const field = document.getElementById('token');
if (reason && error && field) {
  error.textContent = reason;
  error.hidden = false;
  field.setAttribute('aria-describedby', 'error');
  field.setAttribute('aria-invalid', 'true');
}
