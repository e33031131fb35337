// The instructions of a conversation: its system prompt, and the temperature.

const $ = (selector) => document.querySelector(selector);
const dialog = $("#instructions");
const system = $("#system");
const warm = $("#warm");
const temperature = $("#temperature");

/** The dialog for both. `onChange({system, temperature})`: undefined means the model's own. */
export class Instructions {
  constructor(onChange) {
    $("#instruct").addEventListener("click", () => dialog.showModal());
    warm.addEventListener("change", () => this.#shown());
    temperature.addEventListener("input", () => this.#shown());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
    const keep = () =>
      onChange({ system: system.value.trim() || undefined, temperature: warm.checked ? Number(temperature.value) : undefined });
    dialog.addEventListener("submit", keep); // its close event comes later, maybe behind a reload
    dialog.addEventListener("close", keep);
  }

  /** Show the instructions of a conversation. */
  show(chat) {
    if (dialog.open) return;
    system.value = chat.system ?? "";
    warm.checked = chat.temperature !== undefined;
    temperature.value = chat.temperature ?? 1;
    this.#shown();
    $("#instruct").classList.toggle("set", Boolean(chat.system) || warm.checked);
  }

  #shown() {
    temperature.disabled = !warm.checked;
    $("#degrees").textContent = warm.checked ? Number(temperature.value).toFixed(1) : "the model's own";
  }
}
