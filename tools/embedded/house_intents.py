"""The device-command intents of the house: light, heat, doors, kitchen, garden."""

from __future__ import annotations

from tools.embedded.intents import Intent, make_intent

HOUSE: dict[str, Intent] = {
    "light.level": make_intent("room level", 1.1, """
        set the {room} light to {level} percent
        dim the light in the {room} to {level} percent
        put the {room} lamp at {level} percent brightness
        bring the {room} lights to {level} percent
        change the brightness in the {room} to {level} percent
        make the light in the {room} {level} percent bright
        ~i want the {room} lamp at {level} percent
        ~brightness {level} percent for the {room} light
        turn the {room} lamp up or down to {level} percent
        ~the {room} lamp should shine at {level} percent
        ~in the {room} the light should be at {level} percent
        let the {room} light burn at {level} percent
        """, """
        put the light in the {room} at {level} percent
        set the brightness of the {room} lamp to {level} percent
        ~the {room} lights should be {level} percent bright
        dim the {room} lamp to {level} percent brightness
        """),
    "light.switch": make_intent("room state", 0.9, """
        turn {state} the light in the {room}
        turn the {room} lights {state}
        switch {state} the {room} lamp
        switch the light in the {room} {state}
        ~i need the {room} light {state}
        ~lights {state} in the {room}
        make the {room} lamp go {state}
        ~the {room} lights should be {state}
        turn the lamp {state} in the {room}
        ~in the {room} i want the light {state}
        ~the lamp in the {room} has to be {state}
        go and switch {state} all lights in the {room}
        """, """
        switch the {room} lights {state}
        turn {state} the lamp in the {room}
        ~i want the lights in the {room} to go {state}
        ~lamp {state} in the {room}
        """),
    "light.color": make_intent("room color", 1.0, """
        make the {room} light {color}
        change the {room} lamp to {color}
        set the light in the {room} to the color {color}
        turn the {room} lights {color}
        paint the {room} with {color} light
        give the {room} lamp a {color} glow
        ~i want {color} light in the {room}
        ~{color} lights in the {room}
        let the {room} light shine in {color}
        ~in the {room} the lamp should glow {color}
        ~i would like the {room} lights to be {color}
        switch the color in the {room} to {color}
        """, """
        change the color of the {room} light to {color}
        give the {room} a {color} light
        ~the lamp in the {room} should be {color}
        make the lights in the {room} glow {color}
        """),
    "heat.set": make_intent("room degrees", 1.0, """
        set the {room} thermostat to {degrees} degrees
        heat the {room} to {degrees} degrees
        warm the {room} up to {degrees} degrees
        put the heating in the {room} at {degrees} degrees
        change the temperature in the {room} to {degrees}
        make it {degrees} degrees in the {room}
        ~i want {degrees} degrees in the {room}
        ~the {room} should be {degrees} degrees warm
        ~thermostat {degrees} degrees in the {room}
        turn the {room} heating to {degrees} degrees
        ~in the {room} i need {degrees} degrees
        ~the temperature in the {room} has to be {degrees} degrees
        let the thermostat bring the {room} to {degrees} degrees
        """, """
        set the heating in the {room} to {degrees} degrees
        bring the {room} thermostat to {degrees}
        ~it should be {degrees} degrees in the {room}
        put the temperature of the {room} at {degrees} degrees
        """),
    "fan.speed": make_intent("room speed", 0.8, """
        set the {room} fan to {speed}
        run the fan in the {room} on {speed}
        put the fan in the {room} at {speed} speed
        switch the {room} fan to {speed} speed
        turn the fan in the {room} to {speed}
        ~i want the {room} fan on {speed}
        ~{room} fan on {speed} speed
        let the {room} fan blow at {speed} speed
        make the fan in the {room} run at {speed} speed
        ~the {room} fan should be on {speed}
        ~in the {room} i need the fan at {speed} speed
        bring the speed of the fan in the {room} to {speed}
        """, """
        change the speed of the {room} fan to {speed}
        run the {room} fan at {speed} speed
        ~the fan in the {room} should blow on {speed}
        put the {room} fan on {speed}
        """),
    "blinds.move": make_intent("room state", 0.8, """
        {move} the blinds in the {room}
        {move} the {room} blinds
        {move} the {room} shutters
        ~i want you to {move} the shutters in the {room}
        ~time to {move} the {room} blinds
        ~i would like to {move} the blinds in the {room}
        go and {move} the {room} shutters
        {move} all the blinds in the {room}
        ~in the {room} i need you to {move} the shutters
        ~it is time to {move} all the blinds in the {room}
        go and {move} all {room} blinds
        {move} every shutter in the {room}
        """, """
        {move} the shutters in the {room}
        ~i want to {move} the {room} blinds
        ~time to {move} all the shutters in the {room}
        go to the {room} and {move} the blinds
        """),
    "lock.set": make_intent("door state", 0.9, """
        {lock} the {door}
        make sure the {door} is {locked}
        ~i want the {door} {locked}
        {lock} the {door} for me
        ~the {door} should be {locked}
        ~it is time to {lock} the {door}
        keep the {door} {locked}
        go and {lock} the {door}
        ~i need you to see that the {door} is {locked}
        look after the {door}, it should be {locked}
        ~is the {door} {locked}, if not {lock} it
        ~i want to know the {door} is {locked}
        """, """
        check that the {door} is {locked}
        ~i want you to {lock} the {door}
        leave the {door} {locked} for me
        ~it is time the {door} is {locked}
        """),
    "vacuum.run": make_intent("room", 0.5, """
        vacuum the {room}
        send the vacuum to the {room}
        clean the {room} floor
        clean the floor in the {room}
        let the robot clean the {room}
        ~the {room} floor is dirty
        start the vacuum in the {room}
        ~the robot should vacuum the {room}
        ~in the {room} the floor needs the vacuum
        tell the robot to vacuum the {room}
        ~i want the {room} clean, start the robot
        ~the {room} is dirty, vacuum it
        """, """
        send the robot to clean the {room}
        vacuum the floor in the {room}
        let the vacuum clean the {room} floor
        ~the floor in the {room} is dirty
        """),
    "camera.show": make_intent("camera", 0.6, """
        show me the {camera} camera
        open the camera at the {camera}
        show the {camera} on camera
        ~what does the {camera} camera see
        ~let me see the {camera} camera
        pull up the {camera} camera
        ~i want to see the camera at the {camera}
        put the {camera} camera on the screen
        turn on the screen with the {camera} camera
        ~i need to see what happens at the {camera}
        let me look at the {camera} on the camera
        ~on the screen i want the {camera} camera
        """, """
        pull up the camera at the {camera}
        ~let me see the {camera} on camera
        open the {camera} camera on the screen
        ~what does the camera at the {camera} see
        """),
    "scene.run": make_intent("scene", 0.7, """
        start the {scene} scene
        activate the {scene} scene
        run the scene {scene}
        switch to the scene {scene}
        set the house to {scene} mode
        ~i want the {scene} scene now
        ~time for the {scene} scene
        turn on {scene} mode
        ~the house should be in {scene} mode
        put on the {scene} scene in the house
        let the {scene} scene begin
        ~scene {scene}, switch to it
        """, """
        activate the scene {scene} in the house
        switch the house to {scene} mode
        ~time to run the {scene} scene
        ~i want {scene} mode in the house
        """),
    "oven.heat": make_intent("degrees minutes", 1.0, """
        preheat the oven to {oven} degrees for {minutes} minutes
        heat the oven to {oven} degrees for {minutes} minutes
        set the oven to {oven} degrees for {minutes} minutes
        run the oven for {minutes} minutes at {oven} degrees
        ~i need the oven at {oven} degrees for {minutes} minutes
        bake for {minutes} minutes at {oven} degrees
        ~oven {oven} degrees, {minutes} minutes
        ~for {minutes} minutes the oven should be at {oven} degrees
        bring the oven to {oven} degrees and bake for {minutes} minutes
        ~at {oven} degrees the oven should run for {minutes} minutes
        turn on the oven for {minutes} minutes, {oven} degrees
        ~i want to bake at {oven} degrees for {minutes} minutes
        """, """
        run the oven at {oven} degrees for {minutes} minutes
        ~for {minutes} minutes i need the oven at {oven} degrees
        bake in the oven at {oven} degrees for {minutes} minutes
        heat the oven for {minutes} minutes to {oven} degrees
        """),
    "sprinkler.run": make_intent("zone minutes", 1.0, """
        water the {zone} for {minutes} minutes
        run the sprinkler in the {zone} for {minutes} minutes
        ~the {zone} needs water for {minutes} minutes
        turn on the {zone} sprinkler for {minutes} minutes
        give the {zone} {minutes} minutes of water
        start the sprinkler for {minutes} minutes in the {zone}
        ~{minutes} minutes of water for the {zone}
        let the {zone} sprinkler run for {minutes} minutes
        ~for {minutes} minutes the sprinkler should run in the {zone}
        give water to the {zone}, {minutes} minutes
        start to water the {zone}, for {minutes} minutes
        ~i want the {zone} sprinkler on for {minutes} minutes
        """, """
        run the {zone} sprinkler for {minutes} minutes
        ~the {zone} needs {minutes} minutes of water
        turn on the sprinkler in the {zone} for {minutes} minutes
        ~for {minutes} minutes give water to the {zone}
        """),
    "sensor.read": make_intent("room sensor", 0.8, """
        ~what is the {sensor} in the {room}
        tell me the {sensor} in the {room}
        ~how is the {sensor} in the {room}
        read the {sensor} of the {room}
        check the {room} {sensor}
        ~i want to know the {sensor} of the {room}
        give me the {sensor} of the {room}
        measure the {sensor} in the {room}
        ~in the {room}, what is the {sensor}
        show me the {sensor} in the {room}
        ~what {sensor} do we have in the {room} now
        check what the {sensor} of the {room} is
        """, """
        read the {sensor} in the {room}
        ~what is the {room} {sensor} now
        ~i want to know the {sensor} in the {room}
        check and tell me the {sensor} of the {room}
        """),
}  # fmt: skip
