import t from 'tap'
import { OwnedCache } from '../../shared/owned-cache.ts'

t.test('values of one owner go together; what goes leaves nothing behind', async (t) => {
  const cache = new OwnedCache<{ n: number }>(3)
  cache.set('ann', 'a1', { n: 1 })
  cache.set('ann', 'a2', { n: 2 })
  cache.set('ann', 'a2', { n: 3 })
  cache.set('bob', 'b1', { n: 4 })
  cache.set('eve', 'e1', { n: 5 })
  t.equal(cache.get('a1'), undefined, 'the longest unused one')
  t.strictSame(cache.get('a2'), { n: 3 })
  cache.drop('ann')
  t.equal(cache.size, 2)
  t.strictSame([...cache.owners()], ['bob', 'eve'])
  cache.delete('b1')
  t.strictSame([...cache.owners()], ['eve'])
  cache.clear()
  t.strictSame([cache.size, [...cache.owners()]], [0, []])
})
