# SPDX-License-Identifier: Apache-2.0
"""The words of the simulated stories, written for this project: word classes, and eight topics of everyday life.

Within a class, words stand in the order of their frequency (the simulation gives them Zipf weights). A word may
belong to several classes ("her"); it is one entry of the lexicon all the same.
"""

TOPICS = ("kitchen", "sea", "farm", "school", "railway", "forest", "clinic", "music")

# Classes without a topic. ``SPRON``: subject pronouns, ``OPRON``: object pronouns, ``CLAUSAL``: verbs with a clause.
CLOSED_CLASSES: dict[str, str] = {
    "DET": "the a her his this that their one every my our another each some",
    "NAME": "Anna Tom Maria Jonas Ruth Peter Clara Samuel Ida Victor Nora Felix Helen Oscar",
    "SPRON": "he she they it we nobody everyone somebody",
    "OPRON": "it him her them us everything something nothing",
    "PREP": "in on with to at from near behind under over by beside through into across around against toward",
    "CONJ": "and but so or yet",
    "SUBORDINATOR": "when because while if although before after until since once",
    "THAT": "that",
    "ADVERB": (
        "then again soon slowly quietly suddenly together always almost often carefully gently quickly never finally "
        "alone gladly eagerly bravely calmly loudly proudly softly nervously patiently politely sadly secretly "
        "silently smoothly swiftly twice warmly wearily wildly outside upstairs nearby early late"
    ),
    "OPENER": "then later afterwards meanwhile sometimes yesterday today perhaps luckily usually eventually",
    "CLAUSAL": (
        "said thought knew believed hoped noticed heard remembered feared explained guessed dreamed learned promised "
        "understood whispered announced suspected"
    ),
}

# Content words of no particular topic.
GENERAL: dict[str, str] = {
    "NOUN": (
        "man woman child friend day house door room hand thing story night mother father brother sister morning "
        "evening street window table chair letter question answer name face voice word idea reason problem secret "
        "promise mistake stranger neighbor visitor moment week year hour corner wall floor box key lamp bag coat hat "
        "shoe picture book clock bottle rope gift surprise dream plan"
    ),
    "TRANSITIVE": (
        "saw had made took found wanted gave kept left held liked loved needed brought followed called carried opened "
        "closed watched lost moved touched hid dropped lifted pushed pulled cleaned counted"
    ),
    "INTRANSITIVE": "came went stood sat waited walked stayed ran slept laughed smiled cried arrived fell vanished",
    "ADJECTIVE": (
        "old little good new big long small young great quiet strange beautiful heavy dark happy cold warm empty "
        "bright angry clean lonely lucky famous simple broken curious gentle tired clever honest careful perfect "
        "silent narrow dirty polite nervous tall tiny"
    ),
}

BY_TOPIC: dict[str, dict[str, str]] = {
    "kitchen": {
        "NOUN": (
            "cook kitchen soup pot oven knife spoon plate cup bowl cake pie onion potato carrot egg lemon apple "
            "sausage pan kettle stove recipe baker loaf sauce dinner breakfast fork pepper cookie pumpkin tomato jar "
            "basket napkin waiter biscuit"
        ),
        "TRANSITIVE": "cooked baked tasted ate stirred chopped peeled served boiled roasted salted swallowed",
        "INTRANSITIVE": "simmered sizzled dined burned steamed feasted",
        "ADJECTIVE": "hot sweet fresh salty sour spicy tasty bitter delicious hungry greasy crispy",
    },
    "sea": {
        "NOUN": (
            "boat sea ship wave island captain sailor fish harbor beach anchor sail storm net whale shark shell crab "
            "lighthouse pirate deck cabin gull current reef cliff oar mast bay tide pearl octopus dolphin raft diver "
            "compass treasure barrel"
        ),
        "TRANSITIVE": "steered sailed caught anchored rowed sank rescued launched hauled flooded navigated drowned",
        "INTRANSITIVE": "swam drifted floated splashed dived surfaced",
        "ADJECTIVE": "deep wet blue stormy rough sandy foggy calm distant coastal muddy sunken",
    },
    "farm": {
        "NOUN": (
            "farmer horse cow field barn dog pig goat hen sheep fence tractor wheat seed plow orchard pasture meadow "
            "calf lamb rooster donkey goose duck stable wagon harvest bucket shovel haystack shepherd pony scarecrow "
            "garden mill gate beehive turnip"
        ),
        "TRANSITIVE": "fed milked planted harvested plowed watered herded sowed sheared tamed raised saddled",
        "INTRANSITIVE": "grazed sprouted galloped grew ripened bleated",
        "ADJECTIVE": "green ripe dusty wooden fertile stubborn sturdy fat woolly rural sunny grassy",
    },
    "school": {
        "NOUN": (
            "teacher school student class lesson desk pencil sharpener page test classroom library chapter essay exam "
            "notebook blackboard pupil principal crayon eraser poem novel dictionary riddle ruler globe map diploma "
            "grade playground calendar alphabet sentence paragraph professor puzzle textbook"
        ),
        "TRANSITIVE": "read wrote taught studied copied solved spelled memorized corrected graded drew erased",
        "INTRANSITIVE": "graduated failed succeeded listened wondered argued",
        "ADJECTIVE": "smart difficult easy wrong bored correct strict lazy brilliant wise studious shy",
    },
    "railway": {
        "NOUN": (
            "train station ticket engine driver track bridge tunnel passenger platform suitcase conductor signal rail "
            "carriage whistle journey timetable wheel city crowd tower market bus taxi hotel inspector porter "
            "traveler handcart border village road delay seat bell crossing depot"
        ),
        "TRANSITIVE": "boarded missed drove repaired stopped entered crossed reached delayed inspected packed reserved",
        "INTRANSITIVE": "departed traveled rattled hurried paused returned",
        "ADJECTIVE": "fast slow crowded noisy busy rusty foreign modern electric punctual iron local",
    },
    "forest": {
        "NOUN": (
            "tree forest bird bear wolf fox path leaf branch river mountain hill stone cave owl rabbit deer mushroom "
            "hunter squirrel nest trunk root acorn stream valley lake trail campfire tent oak flower spider beetle "
            "feather fern thicket badger"
        ),
        "TRANSITIVE": "hunted climbed tracked gathered foraged chased startled explored trapped spotted sniffed felled",
        "INTRANSITIVE": "howled crept wandered rustled lurked blossomed",
        "ADJECTIVE": "wild thick tangled mossy hidden shady hollow fierce leafy rocky ancient misty",
    },
    "clinic": {
        "NOUN": (
            "doctor nurse patient bed hospital fever pill heart bone cough bandage needle wound clinic pain surgeon "
            "thermometer ambulance stretcher syringe bruise headache knee shoulder stomach throat finger tooth "
            "dentist pulse rash ward scar crutch vaccine symptom cure plaster"
        ),
        "TRANSITIVE": "healed cured treated examined bandaged washed diagnosed comforted warned hurt vaccinated nursed",
        "INTRANSITIVE": "recovered fainted sneezed coughed bled trembled",
        "ADJECTIVE": "sick weak pale healthy painful sore swollen feverish dizzy injured sterile fragile",
    },
    "music": {
        "NOUN": (
            "song singer piano violin drum guitar band concert stage melody flute trumpet choir orchestra rhythm "
            "audience dancer opera chorus cello harp note microphone composer fiddle tune waltz festival curtain "
            "encore organ ballad bow string tambourine theater spotlight banjo"
        ),
        "TRANSITIVE": "played sang performed composed practiced tuned recorded conducted hummed rehearsed admired strummed",
        "INTRANSITIVE": "danced applauded echoed sounded clapped improvised",
        "ADJECTIVE": "loud soft musical lively graceful golden solemn cheerful rhythmic talented shrill joyful",
    },
}
