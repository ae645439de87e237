import { showUnsent } from "./unsent.js";

showUnsent(document.getElementById("unsent-elsewhere"));
