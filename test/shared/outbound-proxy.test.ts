import t from 'tap'
import { proxyFor } from '../../shared/outbound-proxy.ts'

const chosen = (url: string, env: Record<string, string>): string | null =>
  proxyFor(new URL(url), env)?.href ?? null
const all = { HTTPS_PROXY: 'http://proxy.example:3128' }

t.test('the variable of the scheme names the proxy, lower case first, this machine never', async (t) => {
  t.equal(chosen('https://cp.example/', all), 'http://proxy.example:3128/')
  t.equal(chosen('http://cp.example/', all), null, 'http has a variable of its own')
  t.equal(chosen('http://cp.example/', { HTTP_PROXY: 'proxy:80' }), 'http://proxy/', 'without a scheme')
  t.equal(chosen('https://cp.example/', { ...all, https_proxy: 'http://other:1' }), 'http://other:1/')
  t.equal(chosen('https://cp.example/', { HTTPS_PROXY: ' ' }), null)
  for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '[::1]']) {
    t.equal(chosen(`https://${host}:8443/`, all), null, host)
  }
})

t.test('NO_PROXY: hosts, what is below them, ports, addresses, blocks, everything', async (t) => {
  const rows: [url: string, list: string, direct: boolean][] = [
    ['https://cp.example/', 'cp.example', true],
    ['https://a.cp.example/', 'x.test, cp.example', true],
    ['https://a.cp.example/', '.cp.example', true],
    ['https://a.cp.example/', '*.CP.example', true],
    ['https://notcp.example/', 'cp.example', false],
    ['https://cp.example/', 'cp.example:443', true],
    ['https://cp.example/', 'cp.example:8443', false],
    ['https://cp.example:8443/', 'cp.example:8443', true],
    ['https://10.1.2.3/', '10.0.0.0/8', true],
    ['https://11.1.2.3/', '10.0.0.0/8', false],
    ['https://cp.example/', '10.0.0.0/8', false],
    ['https://10.1.2.3/', '10.1.2.3', true],
    ['https://[2001:db8::1]/', '2001:0db8::1', true],
    ['https://[2001:db8::1]/', 'fd00::/8 2001:db8::/32', true],
    ['https://cp.example/', '*', true],
    ['https://cp.example/', '', false],
  ]
  for (const [url, list, direct] of rows) {
    t.equal(chosen(url, { ...all, no_proxy: list }) === null, direct, `${url} with NO_PROXY=${list}`)
  }
})

t.test('a proxy that is none is told, without what may be a password in it', async (t) => {
  for (const wrong of ['socks5://u:hidden@proxy:1080', 'http://', 'http://u:hidden@:x']) {
    t.throws(() => chosen('https://cp.example/', { HTTPS_PROXY: wrong }), {
      code: 'config.invalid',
      detail: 'HTTPS_PROXY must be http://host:port, https://host:port, or host:port',
    })
  }
})
