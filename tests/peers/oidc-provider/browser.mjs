// A person at a browser, without the browser: logs in, consents, and types a device's code in.

// Follows an authorization request to where the server sends its user in the end.
export async function authorize({ url }) {
  const end = await answered(new Browser(url), { url });
  return { location: end.url };
}

// Allows a device, or denies it.
export async function allow({ verification_uri, user_code, allow }) {
  const browser = new Browser(verification_uri);
  const { html } = await browser.open({ url: verification_uri });
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(html)[1];
  const code = { xsrf, user_code };
  await browser.open({ url: verification_uri, form: code });
  const decision = allow ? { confirm: 'yes' } : { abort: 'yes' };
  const end = await answered(browser, { url: verification_uri, form: { ...code, ...decision } });
  return { page: /<title>(.*)<\/title>/.exec(end.html)[1] };
}

// Answers what the pages ask for, until one asks for nothing.
async function answered(browser, request) {
  for (;;) {
    const page = await browser.open(request);
    const asked = /action="([^"]+)"[^]*?name="prompt" value="(\w+)"/.exec(page.html);
    if (!asked) return page;
    const [, url, prompt] = asked;
    request = { url, form: { prompt, login: 'alice', password: 'any' } };
  }
}

class Browser {
  #cookies = new Map();
  #origin;

  constructor(url) {
    this.#origin = new URL(url).origin;
  }

  // Follows redirects, as far as they stay with the server.
  async open({ url, form }) {
    const response = await fetch(url, {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      headers: { accept: 'text/html', cookie: [...this.#cookies].map((c) => c.join('=')).join('; ') },
      redirect: 'manual',
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (value) this.#cookies.set(name, value);
      else this.#cookies.delete(name);
    }
    const location = response.headers.get('location');
    if (!location) return { url, html: await response.text() };
    const next = new URL(location, url);
    return next.origin === this.#origin ? this.open({ url: next.href }) : { url: next.href, html: '' };
  }
}
