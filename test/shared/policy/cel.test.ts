import t from 'tap'
import { type CelValues, compileCel } from '../../../shared/policy/cel.ts'
import { proves } from '../../requirements.ts'

const values = (more: Partial<CelValues> = {}): CelValues => ({
  user: {
    subject: 'ann',
    issuer: 'https://gw.example.com',
    identityProvider: 'corp',
    email: 'ann@acme.example',
    groups: ['staff'],
    claims: { level: 5 },
  },
  client: { id: 'agent', workload: 'desktop', ip: '192.0.2.1' },
  ...more,
})

t.test(
  'expressions that would cost too much, reach out, or are no condition are refused when they are read',
  async (t) => {
    proves(t, 'POLICY-CEL-HOSTILE')
    const deep = `${'('.repeat(60)}true${')'.repeat(60)}`
    for (const [expression, why] of [
      ['args.a.all(x, args.b.all(y, x == y))', /another loop/],
      ['args.a.map(x, args.a.map(y, args.a.map(z, [x, y, z]))).size() > 0', /another loop/],
      [Array.from({ length: 5 }, () => 'args.a.all(x, x == 1)').join(' && '), /5 loops/],
      ['user.email.matches("(a+)+$")', /matches\(\)/],
      ['"a".matches("(a|a)*b")', /matches\(\)/],
      [`"${'x'.repeat(5_000)}" == user.email`, /longer than/],
      [
        Array.from({ length: 150 }, (_, at) => `user.email == "${at}"`).join(' || '),
        /does not parse|exceed/i,
      ],
      [
        `user.email in [${Array.from({ length: 300 }, (_, at) => `"${at}"`).join()}]`,
        /does not parse|exceed/i,
      ],
      [
        `{${Array.from({ length: 80 }, (_, at) => `"${at}": 1`).join()}}.size() > 1`,
        /does not parse|exceed/i,
      ],
      ['args.a.all(user, user == 1)', /loop variable "user"/],
      ['user.claims == {}', /user.claims as a whole/],
      ['process.env.PATH == ""', /process/],
      ['globalThis != null', /globalThis/],
      ['user.constructor == null', /constructor/],
      ['constructor("return 1")()', /parse|constructor/],
      ['user.email', /type string/],
      ['1 + 1', /type int/],
      ['', /parse/],
      ['true &&', /parse/],
    ] as const) {
      t.throws(() => compileCel(expression), { message: why }, expression.slice(0, 60))
    }
    t.doesNotThrow(() => compileCel(deep.slice(45, -45)), 'some parentheses are fine')
  },
)

t.test('what claims and arguments hold costs no more than its bound and reaches no prototype', async (t) => {
  proves(t, 'POLICY-CEL-HOSTILE')
  const all = compileCel('args.a.all(x, x != 0)')
  const list = (length: number) => Array.from({ length }, () => 1)
  t.equal(all.evaluate(values({ args: { a: list(1_000) } })), true)
  t.throws(() => all.evaluate(values({ args: { a: list(1_001) } })), /more than 1000 entries/)
  t.throws(() => all.evaluate(values({ args: { a: [], other: { deep: list(5_000) } } })), /1000 entries/)
  let nested: unknown = 1
  for (let depth = 0; depth < 100; depth++) nested = [nested]
  t.throws(() => all.evaluate(values({ args: { a: [nested] } })), /entries/)
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    t.equal(compileCel(`has(args.${name})`).evaluate(values({ args: {} })), false, name)
    t.throws(() => compileCel(`args["${name}"] == 1`).evaluate(values({ args: {} })), name)
    t.equal(compileCel(`has(user.claims.${name})`).evaluate(values()), false, `claim ${name}`)
  }
  const glob = compileCel(`user.email.glob("${'*a'.repeat(60)}*b")`)
  t.equal(
    glob.evaluate(values({ user: { ...values().user, email: 'a'.repeat(2_000) } })),
    false,
    'no explosion',
  )
})
