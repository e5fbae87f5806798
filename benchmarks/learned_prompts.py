"""Prompts for learned drafters: those whose answers are trained on, and others that are measured.

Both are questions and instructions of many kinds that are answered in free text.  They share neither
subjects nor wording, so that what is measured was not trained on.
"""

from __future__ import annotations

import random
from typing import Final

ASKED: Final = (
    "Explain {} to a ten-year-old.",
    "Write a short paragraph about {}.",
    "What should a beginner know about {}?",
    "List five facts about {}.",
    "Give me step-by-step advice on {}.",
    "Why does {} matter?",
    "Write a dialogue between two friends about {}.",
    "Compare {} with {}.",
    "What are common mistakes people make with {}?",
    "Summarise the history of {}.",
    "Write an e-mail to my manager about {}.",
    "Tell me a story in which {} plays a part.",
    "What is the connection between {} and {}?",
    "Draft an introduction for an article about {}.",
    "How would you teach a class about {}?",
    "Describe {} in detail.",
    "Write a product description for something to do with {}.",
    "What questions should I ask an expert on {}?",
    "Write a poem about {}.",
    "Make a plan for a week that has to do with {}.",
    "Argue for and against {}.",
    "Define {} and give two examples.",
    "How does {} work?",
    "What do I need if I want to start with {}?",
    "Write a Python function that has something to do with {}, and explain it.",
    "Rewrite this politely: I don't want to hear about {} any more.",
    "What could go wrong with {}, and how do I prevent it?",
    "Write a diary entry of somebody who thinks about {}.",
    "Answer as a doctor: how does {} affect my health?",
    "Give a speech of one minute about {}.",
)
"""What is asked of subjects, where answers are trained on."""

SUBJECTS: Final = (
    *("bread baking", "house plants", "electric cars", "the water cycle", "chess openings", "jazz"),
    *("camping in autumn", "photosynthesis", "job interviews", "the Roman Empire", "noise in cities"),
    *("learning French", "solar panels", "board games", "earthquakes", "credit cards", "meditation"),
    *("the human heart", "river fishing", "knitting", "black holes", "school uniforms", "sleep"),
    *("public speaking", "coffee", "bees", "the printing press", "video calls", "marathon running"),
    *("first aid", "databases", "old photographs", "city parks", "the moon", "wedding speeches"),
    *("cheese", "recycling", "horse riding", "the stock market", "dinosaurs", "watercolours"),
    *("a power cut", "working from home", "antibiotics", "sailing", "robots", "a new neighbour"),
    *("spelling rules", "ice hockey", "the desert", "museums", "tea", "machine learning", "tax forms"),
    *("rainforests", "cooking for six", "a broken bicycle", "gravity", "good manners", "piano lessons"),
    *("online shopping", "whales", "the French Revolution", "making soap", "a long train journey"),
    *("vitamins", "sorting algorithms", "friendship", "wind turbines", "moving abroad", "theatre"),
    *("insurance", "growing tomatoes", "penguins", "the Olympic Games", "a shared kitchen", "magnets"),
    *("lullabies", "supermarkets", "archaeology", "cold winters", "typing faster", "rain", "glaciers"),
    *("the invention of the wheel", "pet cats", "prime numbers", "street food", "a lost suitcase"),
)  # fmt: skip
"""What is asked about."""

MEASURED: Final = (
    "How can I keep my desk tidy?",
    "What makes a good night watchman in a lighthouse?",
    "Tell me about the life cycle of frogs.",
    "I have eggs, rice and spinach. What can I cook?",
    "Please help me write a complaint about a late parcel.",
    "What is inflation, and who loses by it?",
    "Describe a market square on a Saturday morning.",
    "Which exercises help against back pain?",
    "How are bridges built over deep water?",
    "Write the beginning of a detective novel set in Iceland.",
    "Name three inventions that changed farming and say how.",
    "What is the difference between weather and climate?",
    "How do I ask for a pay rise without being rude?",
    "Explain how a refrigerator keeps food cold.",
    "My child is afraid of the dark. What can I do?",
    "Write a thank-you note to a teacher who retires.",
    "What happens in the body when we laugh?",
    "Give me ideas for a birthday party in the garden.",
    "How do computers store pictures?",
    "Why did people build castles?",
    "What are the main parts of a violin?",
    "Write a review of an imaginary restaurant.",
    "How can a small shop attract more customers?",
    "Tell me what you know about the planet Saturn.",
)
"""Prompts that are measured; none of their subjects is trained on."""

Message = dict[str, str]


def training_prompts(count: int, seed: int = 0) -> list[list[Message]]:
    """Chats whose answers are trained on, as many as wanted, none twice.

    Raises:
        ValueError: if more are wanted than there are.
    """
    drawn = random.Random(seed)
    most = len(ASKED) * len(SUBJECTS)
    if count > most:
        raise ValueError(f"{count:,} prompts are wanted, but there are {most:,}")
    found: dict[str, None] = {}
    while len(found) < count:
        asked = drawn.choice(ASKED)
        found[asked.format(*drawn.sample(SUBJECTS, 2))] = None
    return [[{"role": "user", "content": text}] for text in found]


def measured_prompts() -> list[list[Message]]:
    """Chats that are measured."""
    return [[{"role": "user", "content": text}] for text in MEASURED]
