import type { TimeCondition } from '../wire/snapshot.ts'

export const weekDays = [
  'Sunday',
  'Monday',
  'Tuesday',
  'Wednesday',
  'Thursday',
  'Friday',
  'Saturday',
] as const

/** Whether an IANA zone is one that this runtime knows. */
export function isTimeZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: zone })
    // Offsets ("+02:00") are taken by the runtime too, and know no daylight saving time.
    return /^[A-Za-z]/.test(zone)
  } catch {
    return false
  }
}

/** Minutes since midnight of `HH:mm`; 24:00 is the end of a day. */
export function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number)
  return hours * 60 + minutes
}

/**
 * Whether a moment (ms since the epoch) is inside a schedule, by the wall clock of its zone: from startTime up to, not
 * including, endTime. An end at or before its start is on the next day. What daylight saving time skips never comes;
 * what it repeats counts both times.
 */
export function compileTime(condition: TimeCondition): (now: number) => boolean {
  const clock = new Intl.DateTimeFormat('en-US', {
    timeZone: condition.timezone,
    weekday: 'long',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  })
  const windows = condition.schedule.map(({ weekDay, startTime, endTime }) => {
    const start = minutesOf(startTime)
    const end = minutesOf(endTime)
    return { day: weekDays.indexOf(weekDay.name), start, end: end <= start ? end + 1440 : end }
  })
  const inside = (now: number): boolean => {
    const parts = clock.formatToParts(now)
    const part = (type: string): string => parts.find((each) => each.type === type)?.value ?? ''
    const today = weekDays.indexOf(part('weekday') as (typeof weekDays)[number])
    const minute = Number(part('hour')) * 60 + Number(part('minute'))
    return windows.some(({ day, start, end }) => {
      if (day === today && minute >= start && minute < end) return true
      return (day + 1) % 7 === today && minute + 1440 < end
    })
  }
  // Every edge of a schedule is the start of a minute, so an answer holds for the whole of its minute.
  let minute = Number.NaN
  let answer = false
  return (now) => {
    const current = Math.floor(now / 60_000)
    if (current !== minute) {
      answer = inside(now)
      minute = current
    }
    return answer
  }
}
