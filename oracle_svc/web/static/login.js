import { get, post } from "./api.js";
import { showUnsent } from "./unsent.js";

const form = document.getElementById("login");
const fault = document.getElementById("fault");

function next() {
  const wanted = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return wanted.origin === location.origin ? wanted.pathname : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { name: form.elements.name.value, token: form.elements.token?.value ?? "" };
  try {
    await post("/login", body);
    location.replace(next());
  } catch (error) {
    fault.textContent = error.message;
    fault.hidden = false;
    (error.reason === "WRONG_TOKEN" ? form.elements.token : form.elements.name)?.focus();
  }
});

showUnsent(document.getElementById("unsent-elsewhere"));

// Until now the browser would have sent the form by itself.
form.querySelector("button").disabled = false;

// A link on another site brings no cookie along (SameSite=Strict); from here it is sent.
const { name, known } = await get("/api/session");
if (name) location.replace(next());
if (known) document.getElementById("token-part")?.remove();
