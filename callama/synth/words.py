"""Word lists from which values are composed: names, places, things, openings of sentences.

They are plain text so that anybody can add to them; ``values.py`` multiplies them with one another
and with made-up words, because a model that has seen few values learns to guess instead of to copy.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace("\n", "|").split("|") if part.strip())


FIRST_NAMES = _words("""
Aaron Abena Ada Adele Agnes Ahmed Aiko Alba Alejandro Amara Amina Anders Anika Anton Arjun Astrid Ayesha Bao
Beatriz Bela Bruno Camila Carlos Cecilia Chidi Chloe Clara Conor Dagmar Daniel Daria Deepak Delia Diego Dmitri
Edith Elena Eli Elsa Emeka Emil Esra Esther Farah Felix Fiona Freya Gabriel Gemma Giorgio Greta Hana Hassan
Hector Helga Hugo Ida Imani Ines Ingrid Isaac Ivan Jamal Jana Jasper Joana Jonas Julia Kaito Karim Katya Keiko
Kenji Kofi Lars Layla Leo Lena Liam Linnea Lucia Luka Mabel Magnus Malik Marta Mateo Maya Mei Milan Mina Moses
Nadia Naomi Nico Nils Noor Nora Oksana Olaf Omar Oscar Otto Paloma Pavel Petra Priya Quentin Rafael Rania Ravi
Rosa Ruben Sadia Salma Samir Sanna Selma Sergei Silvia Simone Sofia Stefan Sven Tariq Tatiana Teodor Thandi Theo
Tomas Uma Valentina Vera Viktor Wanda Wei Xenia Yara Yusuf Zainab Zelda Zoran
""")
LAST_NAMES = _words("""
Abbott Achterberg Adeyemi Aguilar Almeida Amundsen Andrade Aoki Bachmann Baker Balogun Banerjee Barros Becker
Bellini Bergstrom Bianchi Bondarenko Boateng Brandt Brennan Calloway Carvalho Castellano Chandra Chen Cho Cohen
Cooper Costa Dahl Darwish Delgado Desai Diallo Dubois Eriksen Espinoza Falk Farouk Fernandes Fischer Fontaine
Forsyth Fujita Gallo Garnier Goldberg Gomes Grant Greco Gupta Haddad Hansen Hartmann Hayashi Henriksen Herrera
Hoffmann Horvat Ibrahim Ito Ivanova Jensen Joshi Kaplan Kato Keller Khan Kimura Kovacs Kowalski Kramer Kumar
Larsen Laurent Leclerc Lindqvist Lopez Lund Mahmoud Marchetti Marsh Mbeki Mendoza Meyer Mishra Moreau Moretti
Mutasa Nakamura Ndiaye Nielsen Novak Nwosu Obi Okafor Olsen Ortiz Osei Palmer Park Pereira Petrov Quinn Rahman
Ramos Reyes Ricci Rinaldi Romero Rossi Sato Schmidt Schneider Serrano Shapiro Silva Singh Soto Stein Suzuki
Svensson Tanaka Tavares Thorne Torres Tran Vargas Vasquez Vogel Wallace Weber Whitlock Winter Wu Yamada Yilmaz
Zhang Ziegler
""")
CITIES = _lines("""
Lisbon|Oslo|Porto|Madrid|Seville|Valencia|Bilbao|Paris|Lyon|Marseille|Toulouse|Nantes|London|Leeds|Bristol
Glasgow|Cardiff|Dublin|Cork|Galway|Berlin|Hamburg|Munich|Cologne|Leipzig|Dresden|Vienna|Graz|Salzburg|Zurich
Geneva|Basel|Bern|Rome|Milan|Naples|Turin|Bologna|Palermo|Athens|Patras|Istanbul|Ankara|Izmir|Sofia|Varna
Bucharest|Cluj|Budapest|Szeged|Prague|Brno|Warsaw|Krakow|Gdansk|Wroclaw|Vilnius|Riga|Tallinn|Helsinki|Tampere
Turku|Stockholm|Uppsala|Malmo|Copenhagen|Aarhus|Bergen|Trondheim|Reykjavik|Amsterdam|Utrecht|Rotterdam|Brussels
Ghent|Antwerp|Luxembourg|Zagreb|Split|Ljubljana|Belgrade|Skopje|Tirana|Sarajevo|Kyiv|Lviv|Odesa|Tbilisi|Yerevan
Baku|Cairo|Alexandria|Tunis|Rabat|Fez|Casablanca|Dakar|Accra|Kumasi|Lagos|Abuja|Nairobi|Mombasa|Kampala|Kigali
Addis Ababa|Dar es Salaam|Lusaka|Harare|Windhoek|Cape Town|Durban|Pretoria|Maputo|Tel Aviv|Haifa|Amman|Beirut
Doha|Muscat|Dubai|Riyadh|Jeddah|Tehran|Shiraz|Karachi|Lahore|Delhi|Mumbai|Pune|Chennai|Kochi|Jaipur|Kolkata
Dhaka|Colombo|Kathmandu|Yangon|Bangkok|Chiang Mai|Hanoi|Da Nang|Phnom Penh|Vientiane|Kuala Lumpur|Penang
Singapore|Jakarta|Bandung|Surabaya|Manila|Cebu|Taipei|Tainan|Hong Kong|Shanghai|Beijing|Chengdu|Xiamen|Seoul
Busan|Daegu|Tokyo|Osaka|Kyoto|Sapporo|Fukuoka|Sydney|Melbourne|Brisbane|Perth|Hobart|Auckland|Wellington|Dunedin
Suva|Honolulu|Toronto|Montreal|Vancouver|Calgary|Halifax|Winnipeg|Seattle|Portland|Denver|Boise|Austin|Houston
Chicago|Detroit|Boston|Providence|Baltimore|Atlanta|Savannah|Memphis|Tucson|San Diego|Mexico City|Puebla|Merida
Oaxaca|Havana|Kingston|San Juan|Panama City|Bogota|Medellin|Cali|Quito|Guayaquil|Lima|Cusco|La Paz|Sucre
Santiago|Valparaiso|Asuncion|Montevideo|Buenos Aires|Cordoba|Rosario|Mendoza|Sao Paulo|Recife|Salvador|Curitiba
Manaus|Belem
""")
COUNTRIES = _words("""
Portugal Norway Spain France Ireland Germany Austria Switzerland Italy Greece Turkey Bulgaria Romania Hungary
Poland Lithuania Latvia Estonia Finland Sweden Denmark Iceland Belgium Croatia Slovenia Serbia Albania Georgia
Armenia Egypt Tunisia Morocco Senegal Ghana Nigeria Kenya Uganda Rwanda Ethiopia Zambia Namibia Mozambique
Jordan Oman India Nepal Thailand Vietnam Laos Malaysia Indonesia Japan Australia Canada Mexico Cuba Jamaica
Panama Colombia Ecuador Peru Bolivia Chile Paraguay Uruguay Argentina Brazil
""")
LANGUAGES = _words("""
English French German Spanish Portuguese Italian Dutch Danish Swedish Norwegian Finnish Icelandic Polish Czech
Slovak Hungarian Romanian Bulgarian Greek Turkish Arabic Hebrew Persian Hindi Urdu Bengali Tamil Telugu Thai
Vietnamese Khmer Malay Indonesian Tagalog Japanese Korean Mandarin Cantonese Swahili Yoruba Zulu Amharic
Ukrainian Croatian Serbian Latvian Lithuanian Estonian Catalan Basque Welsh Irish
""")
CURRENCIES = _words("""
USD EUR GBP JPY CHF CAD AUD NZD SEK NOK DKK ISK PLN CZK HUF RON BGN TRY ILS EGP ZAR NGN KES GHS MAD INR PKR THB
VND MYR SGD IDR PHP HKD TWD KRW CNY MXN BRL CLP COP PEN ARS UYU
""")
COLOURS = _words("""
red green blue yellow orange purple pink teal turquoise magenta cyan white amber lavender indigo crimson violet
gold silver beige olive navy maroon coral ivory khaki salmon plum
""")
ADJECTIVES = _words("""
amber ancient autumn blue bold brave bright broken calm clear clever cold copper crimson crooked curious daily
dark deep distant double early electric empty endless fading fast final first foggy folded forgotten fresh
frozen gentle giant glass golden grand green grey half hidden hollow honest hungry icy idle inner iron ivory
kind last late lazy lean little lonely long lost loud lucky lunar magic marble mellow misty modern narrow new
noble northern odd old open orange outer pale patient plain polished proud quick quiet rapid rare red restless
rough round royal rusty salty scarlet second secret shallow sharp short shy silent silver simple sleepy slow
small smooth soft solar solid southern spare steady stormy strange sturdy summer sunny sweet swift tall thin
third tidy tiny velvet vivid wandering warm western white wild windy winter wooden yellow young
""")
NOUNS = _words("""
anchor apple arrow atlas badge ballad barn basket beacon bell bicycle bird blanket boat bottle branch bread
bridge brook button cabin candle canyon castle cat cedar chair chapel cherry circle circus clock cloud coast
compass copper corner cottage cricket crow crystal curtain daisy desert diamond dolphin door dragon drum eagle
echo elm ember engine falcon feather fern field fire flame forest fountain fox galaxy garden gate ginger glacier
glove goose grove guitar hammer harbor hawk hazel hill horizon horse hound island ivy jacket jewel juniper
kettle key kingdom kite ladder lake lantern lark leaf lemon letter lighthouse lily lion lotus maple market
meadow mill mirror moon mountain needle nest oak ocean olive orchard otter owl paper parade path pearl pebble
pepper piano pine planet pond poplar prairie quarry rabbit rain raven reef ribbon ridge river road robin rocket
rose saddle sail sand sparrow spruce square stable star station stone storm stream summit sun swan table thistle
thunder tiger tower train tree tunnel valley village violin voyage wagon walnut water wave wheel whistle willow
window wolf yard
""")
PRODUCTS = _lines("""
backpack|kettle|desk lamp|water bottle|headphones|yoga mat|keyboard|office chair|tent|coffee grinder|notebook
raincoat|running shoes|sleeping bag|frying pan|bookshelf|umbrella|alarm clock|wool blanket|picture frame
phone case|hiking boots|bath towel|sunglasses|wall clock|travel mug|bike helmet|garden hose|paint brush|tool box
board game|baby stroller|dog leash|cat tree|power bank|monitor stand|webcam|mouse pad|wallet|scarf|teapot
toaster|blender|vase|mirror|drill|hammock|cutting board|lunch box|ski goggles
""")
INGREDIENTS = _lines("""
tomatoes|rice|chickpeas|spinach|mushrooms|salmon|chicken|tofu|potatoes|lentils|eggs|butter|oats|almonds|garlic
ginger|carrots|leeks|pumpkin|zucchini|beans|feta|basil|lemons|apples|bananas|walnuts|beef|shrimp|cabbage|beets
quinoa|honey|yogurt|corn|avocado|onions|peppers|noodles|barley|figs|pears|kale|radishes|cod|lamb|dates|cumin
dill|mangoes
""")
DISHES = _lines("""
mushroom risotto|lentil soup|chicken curry|pumpkin ravioli|beef stew|fish tacos|vegetable lasagna|shakshuka
miso ramen|potato gratin|lamb tagine|apple strudel|lemon tart|onion soup|paella|falafel wrap|pad thai|bibimbap
moussaka|goulash|banana bread|carrot cake|spinach pie|shrimp gumbo|bean chili|pork dumplings|stuffed peppers
cheese fondue|borscht|ceviche
""")
CUISINES = _words("""
Italian Thai Mexican Indian Japanese Korean Lebanese Greek Ethiopian Vietnamese Spanish French Peruvian Turkish
Georgian Moroccan Portuguese Chinese Polish Brazilian
""")
GENRES = _words("""
jazz rock folk techno classical reggae blues soul punk metal ambient funk country disco opera flamenco gospel
""")
ROOMS = _lines("""
kitchen|bedroom|living room|bathroom|hallway|garage|office|attic|basement|nursery|guest room|dining room
laundry room|study|porch|playroom|library|terrace|pantry|workshop
""")
STREETS = _words("""
Acorn Alder Beacon Birch Bishop Bramble Canal Castle Cedar Chapel Cherry Church Clover Copper Cypress Dover Elm
Falcon Fern Foundry Garden Grove Harbor Hawthorn Hazel Heron Highland Holly Juniper Kestrel Larch Laurel Linden
Magnolia Maple Meadow Mill Mulberry Oak Orchard Park Pine Poplar Quarry Ridge River Rose Rowan Saddler Spruce
Station Sycamore Tanner Thistle Union Valley Victoria Walnut Willow Windmill
""")
STREET_KINDS = _words("Street Road Lane Avenue Drive Court Way Place Square Terrace")
COMPANY_ENDINGS = _words("""
Labs Foods Systems Works Group Partners Logistics Media Energy Textiles Robotics Health Studio Motors Bank
""")
TEAMS = _words("""
sales marketing finance legal support design research operations engineering logistics payroll security
""")
TOPICS = _lines("""
quarterly budget|product launch|design review|hiring plan|office move|customer survey|sales pipeline
safety training|travel policy|website relaunch|data migration|press release|annual report|team retreat
supplier contract|road map|wine tasting|book club|piano lesson|dentist visit|parents evening|garden party
photo walk|tax return|house viewing
""")
CHORES = _lines("""
water the {noun} plants|call {first}|pay the {noun} bill|renew the passport|clean the {room}|buy {ingredient}
return the {product}|email {first} {last}|fix the {adj} {noun}|book the {topic}|send {first} the photos
order {n} stamps|print the {topic} notes|feed the {noun} fish|pick up {first} from the station
charge the {product}|update the {topic} sheet
""")
MESSAGES = _lines("""
I'll be about {n} minutes late|The {topic} is moved to {weekday}|Please bring the {adj} {noun}
Happy birthday, {first}!|Can you send me the {topic} file?|The {product} has arrived
See you at {time} near the {noun}|{first} says hello|We need {n} more copies of the {topic} notes
Dinner is at {time}, bring {ingredient}|The code for the {room} door is {n}|Don't forget the {product}
I left the {adj} {noun} in the {room}|Call {first} back before {time}|All {n} tickets are sold
The train from {city} is delayed|Meeting room {n} is free until {time}|Thanks for the {adj} {noun}
Your {product} is ready for pickup|Let's talk about the {topic} on {weekday}
I found your {noun} under the {product}
""")
SYLLABLES_START = _words("""
Bra Cal Dor El Fen Gal Hol Il Jor Kel Lum Mar Nor Or Pel Quin Ras Sel Tar Ul Vel Wen Xan Yor Zel
""")
SYLLABLES_MIDDLE = _words("a e i o u an ar en il im on or ur av ed")
SYLLABLES_END = _words("""
bor cia dan dor fix gen ha kin la lis mar mond na nix ra rin ro sa tek ton va ven vo wick xo zen
""")
EXERCISES = _lines("""
push-ups|squats|rowing|cycling|swimming|deadlifts|lunges|planks|burpees|yoga|pilates|sprints|pull-ups
stair climbing|jump rope|kettlebell swings|crunches|bench press|hiking|boxing
""")
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
SKIES = _words("sunny cloudy rainy foggy windy snowy clear stormy overcast hazy")
FILE_ENDINGS = _words("txt pdf csv md docx xlsx png jpg json log yaml zip py")
FOLDERS = _words("""
home data reports archive projects photos backup invoices shared drafts exports config notes logs media src
""")
TABLES = _words("""
orders customers invoices shipments products employees payments visits tickets suppliers sensors returns
""")
TIMEZONES = _lines("""
Europe/Lisbon|Europe/Oslo|Europe/Paris|Europe/Athens|Europe/Warsaw|Africa/Cairo|Africa/Lagos|Africa/Nairobi
Asia/Tokyo|Asia/Dubai|Asia/Kolkata|Asia/Seoul|Asia/Singapore|Australia/Sydney|Pacific/Auckland|America/New_York
America/Chicago|America/Denver|America/Bogota|America/Lima|America/Sao_Paulo|America/Toronto
""")
JOBS = _lines("""
accountant|software engineer|nurse|data analyst|sales manager|electrician|graphic designer|project manager
truck driver|receptionist|chemist|office assistant|lab technician|recruiter|product owner|welder|translator
security guard|chef|controller|test engineer|copywriter|system administrator|buyer|safety officer
""")
SUBJECTS = _lines("""
algebra|biology|chemistry|physics|geography|history|music|art|computer science|economics|philosophy|geometry
statistics|astronomy|drama|ethics|linguistics|psychology|world literature|calculus
""")
NUMBER_COLUMNS = _words("""
price revenue quantity weight age score visits cost salary distance rating temperature profit clicks stock
discount duration humidity margin unit_price total_kg
""")
TEXT_COLUMNS = _words("""
region country department product_name category city colour brand supplier channel status store team origin
customer_type branch_office material
""")
MOUNTAINS = _lines("""
Everest|Kilimanjaro|Denali|Aconcagua|Elbrus|Mont Blanc|Matterhorn|Fuji|K2|Lhotse|Olympus|Etna|Ararat|Toubkal
Zugspitze|Ben Nevis|Cotopaxi|Teide|Kinabalu|Makalu
""")
RIVERS = _words("""
Danube Rhine Nile Amazon Volga Mekong Ganges Thames Seine Elbe Loire Tagus Douro Oder Vistula Niger Zambezi
Orinoco Murray Yukon Columbia Dniester Po Rhone Indus Limpopo
""")
POSTS = _lines("""
Our {adj} {noun} is back in {city}!|New on the blog: the {topic}|We open at {time} on {weekday}
{n} reasons to love the {adj} {noun}|Thank you, {city}!|Today's team lunch: {ingredient} for everyone
Meet {first} {last}, our new colleague|Win one of {n} {product} sets|Last {n} seats for the {topic}
A quiet morning by the {noun}|{first} tries the {product}, part {n}|Back from {city} with {n} new ideas
What would you do with a {adj} {noun}?|See you in {city} on {weekday}|{weekday} is {ingredient} day
""")
CLAIMS = _lines("""
{city} has {n} bridges|Eating {ingredient} every day makes you taller|{n} percent of all people dislike {ingredient}
The mayor of {city} sold the {adj} {noun}|Nobody in {city} eats {ingredient}|{ingredient} were banned in {city}
{city} lies on {n} islands|{city} will close its airport on {weekday}|{first} {last} invented the {product}
""")
MAILING_LISTS = _words("""
newsletter weekly-digest vip-customers new-signups spring-sale press-contacts beta-testers partners store-news
lapsed-buyers event-guests product-updates donors blog-readers
""")
NEWS_TERMS = _lines("""
the elections|electric ferries|the wheat harvest|the train strike|solar power|the new tram line|the space probe
house prices|the chess championship|robot bakers|the flood barrier|school lunches|the film festival|rare birds
the budget debate|the port of {city}|the mayor of {city}|the {noun} factory|the airport of {city}|{first} {last}
""")
NEWSPAPERS = _lines("""
Daily {noun}|{city} Times|{city} Post|Morning {noun}|{city} Observer|Evening {noun}|{city} Gazette|{noun} Weekly
""")
