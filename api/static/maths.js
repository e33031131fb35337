// Formulas: the part of TeX that models write, as MathML, which browsers render by themselves. A formula with an unknown
// command is shown as its source: half a formula would be a wrong one.
//
// Theory of operation. Tokens are read from left to right by recursive descent: `row` reads up to an end, `atom` reads
// one element, and `scripted` adds its subscript and superscript. Bounds: MAX_TEX characters, MAX_DEPTH groups.

import { element } from "./dom.js";

const NAMESPACE = "http://www.w3.org/1998/Math/MathML";
const MAX_TEX = 4_000;
const MAX_DEPTH = 40;
const TOKEN = /\\[a-zA-Z]+\*?|\\[^]|[^]/gu;

/** A table without a prototype, so that `\constructor` is no entry. */
const table = (text) => Object.assign(Object.create(null), Object.fromEntries(text.trim().split(/\s+/).map((pair) => pair.split(":"))));

const LETTERS = table(`alpha:α beta:β gamma:γ delta:δ epsilon:ϵ varepsilon:ε zeta:ζ eta:η theta:θ vartheta:ϑ iota:ι kappa:κ lambda:λ mu:μ nu:ν
  xi:ξ pi:π varpi:ϖ rho:ρ varrho:ϱ sigma:σ varsigma:ς tau:τ upsilon:υ phi:ϕ varphi:φ chi:χ psi:ψ omega:ω Gamma:Γ Delta:Δ Theta:Θ Lambda:Λ
  Xi:Ξ Pi:Π Sigma:Σ Upsilon:Υ Phi:Φ Psi:Ψ Omega:Ω infty:∞ partial:∂ nabla:∇ hbar:ℏ ell:ℓ Re:ℜ Im:ℑ aleph:ℵ emptyset:∅ varnothing:∅ imath:ı
  jmath:ȷ forall:∀ exists:∃ nexists:∄ top:⊤ bot:⊥ angle:∠ triangle:△ degree:° ldots:… dots:… cdots:⋯ vdots:⋮ ddots:⋱ dotsc:… dotsb:⋯ prime:′
  square:□ blacksquare:■ checkmark:✓ dagger:† wp:℘ complement:∁`);
const SIGNS = table(`cdot:⋅ times:× div:÷ pm:± mp:∓ ast:∗ star:⋆ circ:∘ bullet:∙ oplus:⊕ ominus:⊖ otimes:⊗ odot:⊙ cup:∪ cap:∩ setminus:∖ wedge:∧ vee:∨
  land:∧ lor:∨ lnot:¬ neg:¬ leq:≤ le:≤ geq:≥ ge:≥ neq:≠ ne:≠ ll:≪ gg:≫ approx:≈ sim:∼ simeq:≃ cong:≅ equiv:≡ propto:∝ in:∈ notin:∉ ni:∋ subset:⊂
  supset:⊃ subseteq:⊆ supseteq:⊇ subsetneq:⊊ to:→ rightarrow:→ leftarrow:← leftrightarrow:↔ Rightarrow:⇒ Leftarrow:⇐ Leftrightarrow:⇔ iff:⟺ implies:⟹
  impliedby:⟸ mapsto:↦ longrightarrow:⟶ longleftarrow:⟵ Longrightarrow:⟹ longmapsto:⟼ hookrightarrow:↪ uparrow:↑ downarrow:↓ rightharpoonup:⇀
  rightleftharpoons:⇌ perp:⟂ parallel:∥ mid:∣ nmid:∤ vdash:⊢ models:⊨ therefore:∴ because:∵ prec:≺ succ:≻ preceq:⪯ succeq:⪰ doteq:≐ triangleq:≜ colon::
  lt:< gt:> asymp:≍ lesssim:≲ gtrsim:≳ coloneqq:≔`);
const FENCES = table(`langle:⟨ rangle:⟩ lfloor:⌊ rfloor:⌋ lceil:⌈ rceil:⌉ lvert:| rvert:| lVert:‖ rVert:‖ vert:| Vert:‖ lbrace:{ rbrace:} lbrack:[ rbrack:]
  {:{ }:} |:‖ backslash:∖`);
const LARGE = table(`sum:∑ prod:∏ coprod:∐ bigcup:⋃ bigcap:⋂ bigoplus:⨁ bigotimes:⨂ bigwedge:⋀ bigvee:⋁`);
const INTEGRALS = table(`int:∫ iint:∬ iiint:∭ oint:∮`);
const FUNCTIONS = new Set("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth log ln lg exp det dim ker deg arg hom gcd Pr".split(" "));
const LIMITS = new Set("lim max min sup inf limsup liminf argmax argmin".split(" "));
const ACCENTS = table(`hat:^ widehat:^ bar:¯ overline:¯ vec:→ overrightarrow:→ tilde:~ widetilde:~ dot:˙ ddot:¨ check:ˇ breve:˘ mathring:˚ overbrace:⏞`);
const BELOW = table(`underline:_ underbrace:⏟`);
const SPACES = { ",": "0.17em", ":": "0.22em", ";": "0.28em", "!": "0", " ": "0.25em", quad: "1em", qquad: "2em", enspace: "0.5em", thinspace: "0.17em" };
const SIZES = new Set("big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm displaystyle textstyle scriptstyle limits nolimits nonumber notag".split(" "));
const TEXTS = new Set("text textrm textnormal mbox textbf textit texttt mathrm operatorname operatorname* mathsf mathtt".split(" "));
/** By alphabet: the code point of its first capital, the exceptions, and the code point of its first small letter. */
const ALPHABETS = {
  mathbb: [0x1d538, { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" }, 0x1d552],
  mathcal: [0x1d49c, { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ" }, 0x1d4b6],
  mathfrak: [0x1d504, { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" }, 0x1d51e],
  mathbf: [0x1d400, {}, 0x1d41a],
  boldsymbol: [0x1d468, {}, 0x1d482],
  mathit: [0x1d434, {}, 0x1d44e],
};
ALPHABETS.mathscr = ALPHABETS.mathcal;
ALPHABETS.bm = ALPHABETS.boldsymbol;
const MATRICES = { matrix: ["", ""], pmatrix: ["(", ")"], bmatrix: ["[", "]"], Bmatrix: ["{", "}"], vmatrix: ["|", "|"], Vmatrix: ["‖", "‖"], smallmatrix: ["", ""], cases: ["{", ""] };
const ALIGNED = new Set("aligned align align* gathered gather gather* split equation equation* array eqnarray eqnarray*".split(" "));

class Unknown extends Error {}

/** In: TeX, and whether it is a block of its own. Out: a `math` element, or the text as code. */
export function formula(tex, display) {
  if (tex.length <= MAX_TEX) {
    try {
      const math = make("math", ...new Reader(tex, display).whole());
      if (display) math.setAttribute("display", "block");
      return math;
    } catch (error) {
      if (!(error instanceof Unknown)) throw error;
    }
  }
  return element("code", "tex", tex);
}

function make(name, ...children) {
  const node = document.createElementNS(NAMESPACE, name);
  node.append(...children);
  return node;
}

function attributed(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const grouped = (nodes) => (nodes.length === 1 ? nodes[0] : make("mrow", ...nodes));
const sign = (text, attributes = {}) => attributed(make("mo", text), attributes);
const fence = (text) => sign(text, { fence: "true", stretchy: "true" });

class Reader {
  #tokens;
  #at = 0;
  #depth = 0;
  #display;

  constructor(tex, display) {
    this.#tokens = tex.match(TOKEN) ?? [];
    this.#display = display;
  }

  whole() {
    const rows = this.#lines(() => this.#at >= this.#tokens.length);
    return rows.length === 1 && rows[0].length === 1 ? rows[0][0] : [this.#grid(rows, "aligned")];
  }

  get #token() {
    return this.#tokens[this.#at];
  }

  #take(expected) {
    const token = this.#tokens[this.#at];
    if (token === undefined || (expected !== undefined && token !== expected)) throw new Unknown();
    this.#at += 1;
    return token;
  }

  #skipSpace() {
    while (/^\s$/.test(this.#token ?? "")) this.#at += 1;
  }

  /** Read rows of cells, up to an end, which is not consumed. */
  #lines(isEnd) {
    const rows = [[[]]];
    for (;;) {
      this.#skipSpace();
      if (isEnd()) break;
      if (this.#token === "&") rows.at(-1).push([]);
      else if (this.#token === "\\\\") {
        rows.push([[]]);
        if (this.#tokens[this.#at + 1] === "[") while (this.#token !== "]") this.#take();
      } else if (this.#token === "\\hline") {
        // a line between rows is left out: the rows can be read without it
      } else {
        rows.at(-1).at(-1).push(this.#scripted());
        continue;
      }
      this.#at += 1;
    }
    if (rows.length > 1 && rows.at(-1).length === 1 && !rows.at(-1)[0].length) rows.pop();
    return rows;
  }

  #grid(rows, kind) {
    const row = (cells) => make("mtr", ...cells.map((cell) => make("mtd", ...cell)));
    const grid = attributed(make("mtable", ...rows.map(row)), { class: kind });
    return kind === "aligned" ? attributed(grid, { displaystyle: "true" }) : grid;
  }

  /** Read everything up to an end, which is consumed. */
  #row(end) {
    if ((this.#depth += 1) > MAX_DEPTH) throw new Unknown();
    const nodes = [];
    for (this.#skipSpace(); this.#token !== end; this.#skipSpace()) nodes.push(this.#scripted());
    this.#at += 1;
    this.#depth -= 1;
    return nodes;
  }

  /** Read one argument: a group, or one element. */
  #argument() {
    this.#skipSpace();
    if ((this.#depth += 1) > MAX_DEPTH) throw new Unknown();
    const found = this.#token === "{" ? (this.#take(), grouped(this.#row("}"))) : this.#atom().node;
    this.#depth -= 1;
    return found;
  }

  #raw() {
    this.#skipSpace();
    this.#take("{");
    let text = "";
    for (let open = 1; ; ) {
      const token = this.#take();
      if (token === "{") open += 1;
      if (token === "}" && (open -= 1) === 0) return text;
      if (token !== "{" && token !== "}") text += /^\\[^a-zA-Z]$/.test(token) ? token[1] : token;
    }
  }

  #scripted() {
    const { node, limits = false } = this.#atom();
    let below = null;
    let above = null;
    for (;;) {
      this.#skipSpace();
      if (["\\limits", "\\nolimits"].includes(this.#token)) this.#at += 1;
      else if (this.#token === "_" && !below) below = (this.#take(), this.#argument());
      else if (this.#token === "^" && !above) above = (this.#take(), this.#argument());
      else if (this.#token === "'" && !above) {
        let primes = "";
        for (; this.#token === "'"; this.#at += 1) primes += "′";
        above = sign(primes);
        if (this.#token === "^") above = make("mrow", above, (this.#take(), this.#argument()));
      } else break;
    }
    const [both, under, over] = limits && (this.#display || limits === "always") ? ["munderover", "munder", "mover"] : ["msubsup", "msub", "msup"];
    if (below && above) return make(both, node, below, above);
    if (below) return make(under, node, below);
    return above ? make(over, node, above) : node;
  }

  /** Read one element: `{node, limits}`; `limits`: its scripts stand below and above it. */
  #atom() {
    const token = this.#take();
    if (token === "{") return { node: grouped(this.#row("}")) };
    if (/[\d]/.test(token)) {
      let number = token;
      while (/^[\d]$/.test(this.#token ?? "") || (/^[.,]$/.test(this.#token ?? "") && /^\d$/.test(this.#tokens[this.#at + 1] ?? ""))) number += this.#take();
      return { node: make("mn", number) };
    }
    if (token[0] === "\\") return this.#command(token.slice(1));
    if (/[_^&}#%]/.test(token)) throw new Unknown();
    if (/\p{L}/u.test(token)) return { node: make("mi", token) };
    if (token === "-") return { node: sign("−") };
    if (token === "~") return { node: attributed(make("mspace"), { width: "0.25em" }) };
    return { node: /[()[\]|]/.test(token) ? sign(token, { stretchy: "false" }) : sign(token) };
  }

  #command(name) {
    if (Object.hasOwn(LETTERS, name)) return { node: make("mi", LETTERS[name]) };
    if (Object.hasOwn(SIGNS, name)) return { node: sign(SIGNS[name]) };
    if (Object.hasOwn(LARGE, name)) return { node: sign(LARGE[name], { largeop: "true" }), limits: true };
    if (Object.hasOwn(INTEGRALS, name)) return { node: sign(INTEGRALS[name], { largeop: "true" }) };
    if (FUNCTIONS.has(name)) return { node: make("mi", name) };
    if (LIMITS.has(name)) return { node: sign(name.replace(/^(lim|arg)(?=.)/, "$1 "), { movablelimits: "false" }), limits: true };
    if (Object.hasOwn(SPACES, name)) return { node: attributed(make("mspace"), { width: SPACES[name] }) };
    if (Object.hasOwn(FENCES, name)) return { node: sign(FENCES[name], { stretchy: "false" }) };
    if (SIZES.has(name)) return this.#token === undefined ? { node: make("mrow") } : this.#atom();
    if (/^[$%#&_]$/.test(name)) return { node: sign(name) };
    if (TEXTS.has(name)) {
      const text = this.#raw();
      return name.startsWith("text") || name === "mbox" ? { node: make("mtext", text.replaceAll(" ", "\u00A0")) } : { node: attributed(make("mi", text), { mathvariant: "normal" }), limits: name.endsWith("*") };
    }
    if (Object.hasOwn(ALPHABETS, name)) return { node: this.#lettered(ALPHABETS[name]) };
    if (Object.hasOwn(ACCENTS, name)) {
      const node = attributed(make("mover", this.#argument(), sign(ACCENTS[name], { stretchy: String(/^(?:over|wide)/.test(name)) })), { accent: "true" });
      return { node, limits: name === "overbrace" ? "always" : false };
    }
    if (Object.hasOwn(BELOW, name)) return { node: make("munder", this.#argument(), sign(BELOW[name], { stretchy: "true" })), limits: name === "underbrace" ? "always" : false };
    switch (name) {
      case "frac":
      case "dfrac":
      case "tfrac":
      case "cfrac":
        return { node: make("mfrac", this.#argument(), this.#argument()) };
      case "binom":
      case "dbinom":
        return { node: make("mrow", fence("("), attributed(make("mfrac", this.#argument(), this.#argument()), { linethickness: "0" }), fence(")")) };
      case "sqrt": {
        this.#skipSpace();
        if (this.#token !== "[") return { node: make("msqrt", this.#argument()) };
        this.#take();
        const degree = grouped(this.#row("]"));
        return { node: make("mroot", this.#argument(), degree) };
      }
      case "left": {
        const begin = this.#delimiter();
        const inner = this.#row("\\right");
        return { node: make("mrow", ...begin, ...inner, ...this.#delimiter()) };
      }
      case "middle":
        return { node: this.#delimiter()[0] ?? make("mrow") };
      case "not": {
        const other = this.#atom().node;
        other.textContent += "\u0338";
        return { node: other };
      }
      case "stackrel":
      case "overset": {
        const above = this.#argument();
        return { node: make("mover", this.#argument(), above) };
      }
      case "underset": {
        const below = this.#argument();
        return { node: make("munder", this.#argument(), below) };
      }
      case "xrightarrow":
        return { node: make("mover", sign("⟶", { stretchy: "true" }), this.#argument()) };
      case "boxed":
        return { node: attributed(make("mrow", this.#argument()), { class: "boxed" }) };
      case "pmod":
        return { node: make("mrow", sign("("), make("mi", "mod"), attributed(make("mspace"), { width: "0.3em" }), this.#argument(), sign(")")) };
      case "bmod":
        return { node: sign("mod") };
      case "tag":
        return { node: make("mtext", `\u2003(${this.#raw()})`) };
      case "begin":
        return { node: this.#environment(this.#raw()) };
      default:
        throw new Unknown();
    }
  }

  /** Read the fence after `\left` or `\right`, which may be empty. */
  #delimiter() {
    this.#skipSpace();
    const token = this.#take();
    if (token === ".") return [];
    const text = token[0] === "\\" ? FENCES[token.slice(1)] : token;
    if (!text) throw new Unknown();
    return [fence(text)];
  }

  #environment(name) {
    if (!Object.hasOwn(MATRICES, name) && !ALIGNED.has(name)) throw new Unknown();
    this.#skipSpace();
    if (name === "array" && this.#token === "{") this.#raw();
    if ((this.#depth += 1) > MAX_DEPTH) throw new Unknown();
    const rows = this.#lines(() => this.#token === "\\end");
    this.#depth -= 1;
    this.#take();
    if (this.#raw() !== name) throw new Unknown();
    const [begin, end] = MATRICES[name] ?? ["", ""];
    const grid = this.#grid(rows, name === "cases" ? "cases" : name === "array" || MATRICES[name] ? "matrix" : "aligned");
    return make("mrow", ...(begin ? [fence(begin)] : []), grid, ...(end ? [fence(end)] : []));
  }

  #lettered([capitals, exceptions, small]) {
    const text = this.#letters();
    const letter = (char) => {
      if (exceptions[char]) return exceptions[char];
      if (/[A-Z]/.test(char)) return String.fromCodePoint(capitals + char.charCodeAt(0) - 65);
      return /[a-z]/.test(char) ? String.fromCodePoint(small + char.charCodeAt(0) - 97) : char;
    };
    return make("mi", [...text].map(letter).join(""));
  }

  /** Read a group's text, or one character; a command inside gives its letter. */
  #letters() {
    this.#skipSpace();
    const text = this.#token === "{" ? this.#raw() : this.#take();
    const plain = text.replace(/\\([a-zA-Z]+)\s*/g, (all, name) => LETTERS[name] ?? all);
    if (plain.includes("\\")) throw new Unknown();
    return plain;
  }
}
