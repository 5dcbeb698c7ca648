"""The device-command intents of phone, music, calendar and car."""

from __future__ import annotations

from tools.embedded.intents import Intent, make_intent

DAILY: dict[str, Intent] = {
    "alarm.set": make_intent("day time", 1.2, """
        set an alarm {day} at {time}
        wake me up {day} at {time}
        set the alarm for {time} {day}
        ~i need an alarm at {time} {day}
        ~i have to get up at {time} {day}
        ~alarm {day} at {time}
        get me out of bed at {time} {day}
        let the alarm ring {day} at {time}
        ~{day} i want to wake up at {time}
        ~at {time} {day} the alarm should ring
        ~{day} at {time} it is time to get up, set the alarm
        ring the alarm {day} at {time}
        ~{day} get me up at {time}
        """, """
        wake me at {time} {day}
        ~{day} i need the alarm at {time}
        let an alarm ring at {time} {day}
        ~i have to wake up {day} at {time}
        """),
    "timer.start": make_intent("amount unit", 1.1, """
        set a timer for {duration}
        start a timer of {duration}
        start the countdown for {duration}
        ~timer for {duration}
        count down {duration}
        ~i need a timer of {duration}
        give me a countdown of {duration}
        let the timer run for {duration}
        let the countdown run, {duration}
        ~for {duration} i want a timer
        ~{duration} on the timer
        begin to count down from {duration}
        """, """
        start a countdown of {duration}
        give me a timer for {duration}
        ~i need the countdown to run for {duration}
        set the timer and count down {duration}
        """),
    "reminder.add": make_intent("text time", 1.2, """
        remind me to {text} at {time}
        remind me at {time} to {text}
        ~at {time} remind me to {text}
        set a reminder to {text} at {time}
        ~i need a reminder at {time} to {text}
        do not let me forget to {text} at {time}
        give me a reminder at {time} to {text}
        ~reminder for {time}, {text}
        ~i must not forget to {text} at {time}, so give me a reminder
        ~{time}, remind me to {text}
        ~for {time} i need a reminder, {text}
        add a reminder, at {time} i have to {text}
        """, """
        ~at {time} give me a reminder to {text}
        set a reminder for {time} to {text}
        ~i need to {text} at {time}, remind me
        do not let me forget at {time} to {text}
        """),
    "music.play": make_intent("playlist room", 1.0, """
        play {playlist} in the {room}
        put on {playlist} in the {room}
        play the playlist {playlist} in the {room}
        start the {playlist} playlist in the {room}
        ~i want to hear {playlist} in the {room}
        ~in the {room} play {playlist}
        let me hear {playlist} in the {room}
        start playing {playlist} on the {room} speaker
        ~the speaker in the {room} should play {playlist}
        ~i would like {playlist} on in the {room}
        let the {room} speaker start {playlist}
        ~in the {room} start the playlist {playlist}
        """, """
        play {playlist} on the {room} speaker
        ~in the {room} i want to hear {playlist}
        put on the playlist {playlist} in the {room}
        start playing the {playlist} playlist in the {room}
        """),
    "volume.set": make_intent("device level", 0.9, """
        set the volume of the {device} to {level}
        turn the {device} volume to {level}
        put the {device} at volume {level}
        change the volume on the {device} to {level}
        make the {device} play at volume {level}
        ~{device} volume {level}
        ~i want volume {level} on the {device}
        bring the {device} to volume {level}
        let the {device} go to volume {level}
        ~the volume of the {device} should be {level}
        ~on the {device} i want volume {level}
        turn it to volume {level} on the {device}
        """, """
        change the {device} volume to {level}
        put the volume of the {device} at {level}
        ~the {device} should play at volume {level}
        ~volume {level} on the {device}
        """),
    "tv.channel": make_intent("channel", 0.7, """
        switch the tv to channel {channel}
        change to channel {channel}
        put on channel {channel}
        go to channel {channel} on the tv
        ~i want to watch channel {channel}
        ~tv channel {channel}
        show me channel {channel} on the tv
        turn the tv to channel {channel}
        ~on the tv i want to see channel {channel}
        let the tv show channel {channel}
        ~the tv should be on channel {channel}
        find channel {channel} and put it on
        """, """
        change the tv to channel {channel}
        ~i want channel {channel} on the tv
        let me watch tv channel {channel}
        go and put the tv on channel {channel}
        """),
    "list.add": make_intent("item count", 1.1, """
        add {count} {pack} of {item} to the shopping list
        put {count} {pack} of {item} on the shopping list
        ~we need {count} {pack} of {item}
        ~i have to buy {count} {pack} of {item}
        write {count} {pack} of {item} on the list
        ~we are out of {item}, add {count} {pack}
        note that we need {count} {pack} of {item}
        ~shopping list, {count} {pack} of {item}
        ~on the shopping list we need {count} {pack} of {item}
        ~we have no {item}, note {count} {pack}
        note {count} {pack} of {item} to buy
        ~{count} {pack} of {item} should be on the list
        """, """
        write down {count} {pack} of {item} for shopping
        ~we have to buy {count} {pack} of {item}
        ~we are out of {item}, put {count} {pack} on the list
        add to the shopping list {count} {pack} of {item}
        """),
    "calendar.add": make_intent("title day time", 1.2, """
        add {title} to my calendar {day} at {time}
        put {title} on the calendar {day} at {time}
        schedule {title} {day} at {time}
        schedule {title} at {time} {day}
        ~i have {title} {day} at {time}, add it to the calendar
        make a calendar entry for {title} {day} at {time}
        ~{day} at {time} i have {title}, put it on my calendar
        enter {title} in my calendar {day} at {time}
        ~{title} is {day} at {time}, note it in the calendar
        ~{day} i have {title} at {time}, put it in
        ~at {time} {day} put {title} on my calendar
        plan {title} for {day} at {time}
        """, """
        put {title} in my calendar at {time} {day}
        ~{day} at {time} schedule {title}
        ~i have {title} at {time} {day}, put it on the calendar
        add a calendar entry for {title} {day} at {time}
        """),
    "message.send": make_intent("contact text", 1.2, """
        tell {contact} that {text}
        text {contact} that {text}
        send {contact} a message that says {text}
        send a message to {contact} saying {text}
        let {contact} know that {text}
        write to {contact} that {text}
        ~message to {contact}, {text}
        ~{contact} should know that {text}
        give {contact} the message that {text}
        ~{contact} needs to know that {text}
        say to {contact} that {text}
        ~i have a message for {contact}, {text}
        """, """
        send a text to {contact} that says {text}
        write {contact} a message saying {text}
        ~i want {contact} to know that {text}
        message {contact} that {text}
        """),
    "phone.call": make_intent("contact", 0.6, """
        call {contact}
        give {contact} a call
        ring {contact} on the phone
        phone {contact} for me
        start a call with {contact}
        ~i want to talk to {contact}
        make a phone call to {contact}
        ~get {contact} on the phone
        ~i need to phone {contact}
        let me speak to {contact}
        ~{contact} is the one i want to call
        put me on the phone with {contact}
        """, """
        ~i want to call {contact} on the phone
        start a phone call with {contact}
        ~let me talk to {contact} on the phone
        make a call to {contact} for me
        """),
    "route.start": make_intent("place", 0.8, """
        navigate to {place}
        show me the way to {place}
        take me to {place}
        start the route to {place}
        give me directions to {place}
        ~i want to drive to {place}
        guide me to {place}
        find a route to {place}
        ~how do i get to {place}
        ~i need the way to {place}
        let us drive to {place}
        ~what is the route to {place}
        bring me to {place}
        """, """
        find the way to {place}
        start to navigate to {place}
        ~i want directions to {place}
        guide me on the route to {place}
        """),
    "weather.get": make_intent("place day", 1.0, """
        ~what is the weather in {city} {day}
        ~how is the weather {day} in {city}
        tell me the weather in {city} {day}
        show me the forecast for {city} {day}
        ~will it rain in {city} {day}
        ~will it be sunny {day} in {city}
        give me the weather forecast {day} for {city}
        ~weather in {city} {day}
        ~{day} in {city}, what will the weather be
        ~do we get rain in {city} {day}
        ~i want to know the weather {day} in {city}
        let me see the forecast {day} in {city}
        """, """
        ~what is the forecast {day} for {city}
        ~will it rain {day} in {city}
        ~how will the weather be in {city} {day}
        tell me the forecast for {city} {day}
        """),
    "car.charge": make_intent("level time", 0.9, """
        charge the car to {level} percent by {time}
        ~the car should have {level} percent by {time}
        plug in and charge the car to {level} percent until {time}
        fill the car battery to {level} percent by {time}
        ~i need the car at {level} percent by {time}
        ~by {time} charge the car to {level} percent
        bring the car battery to {level} percent until {time}
        ~car battery at {level} percent by {time}
        ~until {time} the battery of the car needs {level} percent
        ~the car has to be at {level} percent at {time}
        ~by {time} fill the car to {level} percent
        see that the car is charged to {level} percent by {time}
        """, """
        charge the car battery to {level} percent until {time}
        ~by {time} i need the car at {level} percent
        fill the battery of the car to {level} percent by {time}
        ~until {time} charge the car to {level} percent
        """),
}  # fmt: skip
