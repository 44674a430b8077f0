# SPDX-License-Identifier: Apache-2.0
"""Spoken stories written for this project in November 2026: text that no model trained before then can have seen.

They are matched to the benchmark's narratives in register (one person tells what happened) and length of a window, not in
topic; the exposure probe therefore compares what a change of words costs in each text, not the losses themselves. A model
that was trained on this repository has seen them: raise VERSION and write new ones then.
"""

from typing import Final

VERSION: Final = 1

CONTROL_TEXTS: Final = (
    (
        "My grandmother kept bees until she was eighty three, and the year she stopped she gave me the smoker and a hat with a "
        "veil and told me that was my inheritance. I lived on the fourth floor of a building in the middle of the city. I did "
        "not know a single person with a garden. So for two years the smoker stood on top of my refrigerator next to a bag of "
        "rice, and every time somebody came over they asked me what it was, and every time I told a slightly better story. "
        "Then one morning in May my neighbour from across the hall knocked, out of breath, and said there was a cloud on his "
        "balcony, and it was humming. I had never been happier to be asked for help. I put on the veil, I carried the smoker "
        "across the hall like a lantern, and I realised in front of eleven people in pyjamas that I had no idea how to light it."
    ),
    (
        "The summer I turned nineteen I worked the night shift in a factory that made the little plastic feet that go under "
        "chairs. Nobody ever thinks about those. There were nine machines and two of us, and the other one was called Radu, "
        "and Radu did not talk. He had a thermos with a dent in it and a radio that got one station, and the station played "
        "nothing but weather for ships. After three weeks I knew the wind at every lighthouse on that coast. I started to "
        "dream about it. And then one night the belt on machine six caught my sleeve, and before I had understood what was "
        "happening Radu had crossed the whole hall and pulled the plug out of the wall with both hands. He stood there, he "
        "looked at me, and he said the first whole sentence that I ever heard from him. He said, tomorrow you wear short "
        "sleeves, and he went back and poured me half of what was in the thermos."
    ),
    (
        "When my sister got married she asked me to bring the cake from our town to the island, which sounds easy if you have "
        "never carried four layers of almond sponge on a ferry. I had a box, I had ice, I had a friend with a van. What I did "
        "not have was a plan for the swell. About halfway across the captain said over the loudspeaker that we should all sit "
        "down, and everybody sat down, except me, because I was standing in the hold with my arms around a box the size of a "
        "washing machine. A boy of about seven came down the stairs. He watched me for a while. He asked what was in it, and "
        "I told him, and he thought about that and then he sat on the floor and leaned his back against the other side, and "
        "we stayed like that for forty minutes without saying another word. The top layer slid. Only the top one. At dinner I "
        "cut him the first piece, and my sister still does not know who he was."
    ),
    (
        "I failed my driving test five times, and all five times with the same examiner, a very tall man called Mister Oduya "
        "who had to fold himself into the passenger seat like a deck chair. By the third time we knew each other's birthdays. "
        "By the fourth he had told me about his knee. On the fifth try I did everything right, I mean everything, the hill, "
        "the roundabout, the parking between two lorries, and I was already composing the message to my mother when a goose "
        "walked out of the petrol station. It did not hurry. I stopped, and it stopped, and behind us eleven cars stopped. "
        "Mister Oduya looked at the goose, then at his clipboard, and said in a small voice that there was no box for this. "
        "And I do not know what came over me, but I put on the hand brake, I got out, and I walked it back across, holding up "
        "my palm to the traffic, and when I got in again he was laughing so hard that he could not write."
    ),
)
